// What the environment chooses, seen in processes of their own: devices, memory, failures, leaks,
// counters.

#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "tests/emulator/test_runtime_fixture.h"

namespace xception::emulator {
namespace {

struct Outcome {
  int status = -1;
  std::string output;  // both streams
};

// Runs the probe with `environment` ("XC_...=... XC_...=...") in front.
Outcome probe(const std::string& what, const std::string& environment) {
  // Links the runtime, so that there is an emulator to be found.
  int version = 0;
  REQUIRE_CUDA(cudaRuntimeGetVersion(&version));
  const std::string command = environment + " '" XC_PROBE "' " + what + " 2>&1";
  Outcome outcome;
  std::FILE* pipe = popen(command.c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::array<char, 256> buffer;
  while (std::fgets(buffer.data(), static_cast<int>(buffer.size()), pipe) != nullptr) {
    outcome.output += buffer.data();
  }
  const int status = pclose(pipe);
  outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return outcome;
}

TEST_CASE("devices are those that were named, in that order") {
  XC_NEEDS_EMULATOR();
  const Outcome several = probe("devices", "XC_EMULATOR_DEVICE=sm_90,sm_75,sm_120");
  CHECK(several.status == 0);
  CHECK_CONTAINS(several.output, "0 sm_90 ");
  CHECK_CONTAINS(several.output, "1 sm_75 ");
  CHECK_CONTAINS(several.output, "2 sm_120 ");
  const Outcome plain = probe("devices", "XC_EMULATOR_DEVICE= ; unset XC_EMULATOR_DEVICE;");
  CHECK_CONTAINS(plain.output, "0 sm_80 ");
  CHECK_CONTAINS(probe("devices", "XC_EMULATOR_MEMORY=1048576").output, " 1048576\n");
}

TEST_CASE("there can be no device, and no driver") {
  XC_NEEDS_EMULATOR();
  const Outcome none = probe("devices", "XC_EMULATOR_DEVICE=none");
  CHECK(none.status == 1);
  CHECK_CONTAINS(none.output, "cudaErrorNoDevice");
  CHECK_CONTAINS(probe("versions", "XC_EMULATOR_DEVICE=none").output, "driver some runtime some");
  CHECK_CONTAINS(probe("devices", "XC_EMULATOR_DEVICE=no-driver").output,
                 "cudaErrorInsufficientDriver");
  CHECK_CONTAINS(probe("versions", "XC_EMULATOR_DEVICE=no-driver").output,
                 "driver none runtime some");
  CHECK_CONTAINS(probe("fill", "XC_EMULATOR_DEVICE=none").output, "cudaErrorNoDevice");
}

TEST_CASE("a device that nobody knows is said to be so") {
  XC_NEEDS_EMULATOR();
  const Outcome unknown = probe("devices", "XC_EMULATOR_DEVICE=sm_80,A100");
  CHECK(unknown.status == 1);
  CHECK_CONTAINS(unknown.output, "'A100'");
  CHECK_CONTAINS(unknown.output, "sm_90");
  CHECK_CONTAINS(unknown.output, "cudaErrorInitializationError");
  CHECK_CONTAINS(probe("devices", "XC_EMULATOR_SEED=12x").output,
                 "XC_EMULATOR_SEED=12x is no number");
}

TEST_CASE("a device older than all code has no kernel image") {
  XC_NEEDS_EMULATOR();
  const Outcome old = probe("fill", "XC_EMULATOR_DEVICE=sm_70");
  CHECK(old.status == 1);
  CHECK_CONTAINS(old.output, "cudaErrorNoKernelImageForDevice");
}

TEST_CASE("newer devices run the PTX of older ones") {
  XC_NEEDS_EMULATOR();
  for (const char* device : {"sm_86", "sm_89", "sm_90", "sm_120"}) {
    const Outcome outcome = probe("fill", std::string("XC_EMULATOR_DEVICE=") + device);
    CHECK(outcome.status == 0);
    CHECK_CONTAINS(outcome.output, "value 40");
  }
}

TEST_CASE("devices have memory, streams and faults of their own") {
  XC_NEEDS_EMULATOR();
  const Outcome outcome = probe("peers", "XC_EMULATOR_LEAKS=error XC_EMULATOR_DEVICE=sm_80,sm_90");
  CAPTURE(outcome.output);
  CHECK(outcome.status == 0);
  CHECK_CONTAINS(outcome.output, "value 6\nthread on 0\ncudaErrorInvalidResourceHandle\n");
  CHECK_CONTAINS(outcome.output, "cudaErrorIllegalAddress\ncudaSuccess\ncudaSuccess\n");
}

TEST_CASE("what is left at exit is reported, and fails the process where asked") {
  XC_NEEDS_EMULATOR();
  const Outcome reported = probe("leave", "XC_EMULATOR_LEAKS=report");
  CHECK(reported.status == 0);
  CHECK_CONTAINS(reported.output, "left at exit: 1 device allocation (1234 bytes), 1 stream\n");
  const Outcome failed = probe("leave", "XC_EMULATOR_LEAKS=error");
  CHECK(failed.status == 99);
  CHECK_CONTAINS(failed.output, "cudaSuccess");
  CHECK_LACKS(probe("leave", "XC_EMULATOR_LEAKS=ignore").output, "left at exit");
  CHECK(probe("fill", "XC_EMULATOR_LEAKS=error").status == 0);
}

TEST_CASE("the environment makes calls fail") {
  XC_NEEDS_EMULATOR();
  CHECK_CONTAINS(probe("fill", "XC_EMULATOR_FAIL_ALLOC=1").output, "cudaErrorMemoryAllocation");
  // The second call is cudaMalloc.
  CHECK_CONTAINS(probe("fill", "XC_EMULATOR_FAIL_CALL=2").output, "cudaErrorMemoryAllocation");
  CHECK_CONTAINS(probe("fill", "XC_EMULATOR_FAIL_CALL=3").output, "cudaErrorUnknown");
  CHECK(probe("fill", "XC_EMULATOR_FAIL_CALL=1000").status == 0);
  CHECK_CONTAINS(probe("fill", "XC_EMULATOR_MEMORY=300").output, "cudaErrorMemoryAllocation");
}

TEST_CASE("counters are appended to a file, an object a line") {
  XC_NEEDS_EMULATOR();
  std::string path = "/tmp/xc_emulator_counters_XXXXXX";
  const int file = mkstemp(path.data());
  REQUIRE(file >= 0);
  close(file);
  for (int run = 0; run < 2; ++run) {
    CHECK(probe("fill", "XC_EMULATOR_COUNTERS=" + path).status == 0);
  }
  std::ifstream lines(path);
  std::string line;
  int count = 0;
  while (std::getline(lines, line)) {
    ++count;
    CHECK(line.front() == '{');
    CHECK(line.back() == '}');
    CHECK_CONTAINS(line, "fill_device");
    CHECK_CONTAINS(line, "\"grid\": [1, 1, 1]");
    CHECK_CONTAINS(line, "\"registers\": ");
  }
  CHECK(count == 2);
  std::remove(path.c_str());
}

}  // namespace
}  // namespace xception::emulator
