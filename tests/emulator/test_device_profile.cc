// The GPUs that there are to be emulated.

#include "tests/emulator/device_profile.h"
#include "tests/testing.h"

namespace xception::emulator {
namespace {

TEST_CASE("every profile is found by its name and holds together") {
  REQUIRE(profile_names().size() == 8);
  for (const std::string& name : profile_names()) {
    CAPTURE(name);
    const auto profile = find_profile(name);
    REQUIRE(profile.has_value());
    CHECK(name == "sm_" + std::to_string(profile->arch));
    CHECK(profile->name.find(name) != std::string::npos);
    CHECK(profile->shared_bytes_per_block == 48 << 10);
    CHECK(profile->shared_bytes_per_block_optin + profile->shared_bytes_reserved ==
          profile->shared_bytes_per_multiprocessor);
    CHECK(profile->registers_per_multiprocessor == 65536);
    CHECK(profile->threads_per_multiprocessor % 512 == 0);
    CHECK(profile->global_bytes > profile->l2_bytes);
  }
}

TEST_CASE("limits are those of NVIDIA's table") {
  CHECK(find_profile("sm_70")->shared_bytes_per_block_optin == 96 << 10);
  CHECK(find_profile("sm_75")->shared_bytes_per_block_optin == 64 << 10);
  CHECK(find_profile("sm_80")->shared_bytes_per_block_optin == 163 << 10);
  CHECK(find_profile("sm_86")->shared_bytes_per_block_optin == 99 << 10);
  CHECK(find_profile("sm_89")->blocks_per_multiprocessor == 24);
  CHECK(find_profile("sm_90")->shared_bytes_per_block_optin == 227 << 10);
  CHECK(find_profile("sm_90")->multiprocessors == 132);
  CHECK(find_profile("sm_100")->shared_bytes_per_block_optin == 227 * 1024);
  CHECK(find_profile("sm_120")->threads_per_multiprocessor == 1536);
}

TEST_CASE("other names are no profile") {
  for (const char* name : {"", "sm_81", "sm_80 ", "A100", "80"}) {
    CHECK_FALSE(find_profile(name).has_value());
  }
}

}  // namespace
}  // namespace xception::emulator
