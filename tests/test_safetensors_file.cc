// The weight file as the operating system has it: what may stand where a file should, files that
// change after they were opened, threads, and memory that is not to be had.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "allocations.h"
#include "engine/safetensors.h"
#include "random.h"
#include "safetensors_bytes.h"
#include "temp_dir.h"
#include "testing.h"

namespace xception {
namespace {

// Dated to 2001, so that any later write shows in the time of modification.
std::string write(const TempDir& dir, const std::string& name, const std::string& bytes) {
  const std::string file = dir.path(name);
  std::ofstream(file, std::ios::binary) << bytes;
  const timespec times[2] = {{1'000'000'000, 0}, {1'000'000'000, 0}};
  REQUIRE(::utimensat(AT_FDCWD, file.c_str(), times, 0) == 0);
  return file;
}

void check_refused(const std::string& path, Code code, const std::string& message) {
  const auto file = WeightFile::open(path);
  REQUIRE_FALSE(file.ok());
  CHECK(file.status().code() == code);
  CHECK(file.status().message() == message);
}

Status read_first(const WeightFile& file) {
  const TensorEntry& tensor = file.entries().front();
  std::vector<float> values(static_cast<std::size_t>(tensor.elements()));
  return file.read(tensor, values);
}

// The failure of every way to read the data of a file that `change` was done to after open.
template <class Change>
void check_changed(const TempDir& dir, Change change, const std::string& words) {
  const std::string path = write(dir, "m", one_tensor("F32", std::vector<float>(100'000, 1.0F)));
  const auto file = WeightFile::open(path);
  REQUIRE(file.ok());
  REQUIRE(read_first(**file).ok());
  change(path);
  for (const Status& status : {read_first(**file), (*file)->sha256().status()}) {
    CHECK(status.code() == Code::kIo);
    CHECK(status.message() == "model '" + path + "' " + words + "; load it again");
  }
}

}  // namespace

TEST_CASE("each thing that is no file has its own sentence") {
  const TempDir dir;
  const std::string model = dir.path("m");
  const std::string cannot = "cannot open model '" + model + "': ";
  check_refused(model, Code::kNotFound, cannot + "there is no such file");

  std::filesystem::create_directory(model);
  check_refused(model, Code::kIo, cannot + "it is a directory, expected a .safetensors file");
  std::filesystem::remove(model);

  REQUIRE(::mkfifo(model.c_str(), 0600) == 0);  // nobody writes: a plain open would hang
  check_refused(model, Code::kIo, cannot + "it is a pipe, expected a .safetensors file");
  std::filesystem::remove(model);

  REQUIRE(::mknod(model.c_str(), S_IFSOCK | 0600, 0) == 0);
  check_refused(model, Code::kIo, cannot + "it is no regular file, expected a .safetensors file");
  std::filesystem::remove(model);

  std::filesystem::create_symlink("m", model);
  CHECK(WeightFile::open(model).status().code() == Code::kIo);  // a loop
  std::filesystem::remove(model);

  write(dir, "m", "{}");
  check_refused(model + "/n", Code::kNotFound,
                "cannot open model '" + model + "/n': there is no such file");
  REQUIRE(::chmod(model.c_str(), 0) == 0);
  const uid_t user = ::geteuid();
  REQUIRE((user != 0 || ::seteuid(65534) == 0));  // root may read anything
  const Status denied = WeightFile::open(model).status();
  REQUIRE(::seteuid(user) == 0);
  CHECK(denied.code() == Code::kIo);
  CHECK(denied.message() == cannot + "permission to read it is denied");

  check_refused("/dev/null", Code::kIo,
                "cannot open model '/dev/null': it is a device, expected a .safetensors file");
  check_refused(std::string("m\0n", 3), Code::kInvalidArgument,
                "cannot open model 'm': its name has a zero byte in it");
}

TEST_CASE("files of other formats are told by name") {
  const TempDir dir;
  const std::string model = "model '" + dir.path("m") + "' is ";
  const auto check = [&](const std::string& bytes, const std::string& words) {
    check_refused(write(dir, "m", bytes), Code::kBadModel, model + words);
  };
  check("", "empty, expected a .safetensors file; fetch or export it again");
  check("abc",
        "3 bytes long, too short for a safetensors file (at least 8 bytes); fetch or export it "
        "again");
  const std::string pytorch =
      "no safetensors file: it looks like a PyTorch checkpoint; convert it with weights/export.py";
  check(std::string("PK\x03\x04\0\0\x08\x08\0\0", 10), pytorch);
  check("\x80\x02\x8a\nl\xfc\x9c\x46\xf9", pytorch);
  check("\x80\x05\x95 and more", pytorch);  // the newest protocol
  check("\x89HDF\r\n\x1a\n",
        "no safetensors file: it looks like Keras weights in HDF5, which are not read; load them "
        "into the network in PyTorch, and convert what that saves with weights/export.py");
  check("<!DOCTYPE html>",
        "no safetensors file: its first 8 bytes claim a header of 5789751444030890300 bytes, above "
        "the format's limit of 100000000; fetch it again, or export the model with "
        "weights/export.py");
}

TEST_CASE("a file that changes after open is an error, not a crash") {
  const TempDir dir;
  const auto resize = [](std::uintmax_t bytes) {
    return [bytes](const std::string& path) { std::filesystem::resize_file(path, bytes); };
  };
  const std::string cut = "changed or was cut after it was loaded";
  check_changed(dir, resize(0), cut);
  check_changed(dir, resize(4096), cut);
  check_changed(dir, resize(1'000'000), "was changed after it was loaded");
  check_changed(
      dir,
      [](const std::string& path) {
        std::fstream(path, std::ios::in | std::ios::out | std::ios::binary) << 'x';
      },
      "was changed after it was loaded");
  check_changed(
      dir,
      [](const std::string& path) {  // within the second
        const timespec times[2] = {{1'000'000'000, 500'000'000}, {1'000'000'000, 500'000'000}};
        REQUIRE(::utimensat(AT_FDCWD, path.c_str(), times, 0) == 0);
      },
      "was changed after it was loaded");
}

TEST_CASE("a file replaced or removed by name is still the one that was opened") {
  const TempDir dir;
  const std::string path = write(dir, "m", one_tensor("F32", std::vector<float>{1, 2}));
  const auto file = WeightFile::open(path);
  REQUIRE(file.ok());
  std::filesystem::rename(write(dir, "n", one_tensor("F32", std::vector<float>{3, 4})), path);
  std::vector<float> values(2);
  CHECK((*file)->read((*file)->entries()[0], values).ok());
  CHECK(values == std::vector<float>{1, 2});
  std::filesystem::remove(path);
  CHECK((*file)->read((*file)->entries()[0], values).ok());
}

TEST_CASE("the descriptor is closed with the file and not inherited") {
  const TempDir dir;
  const std::string path = write(dir, "m", one_tensor("F32", std::vector<float>{1}));
  const int before = ::dup(0);
  ::close(before);  // the lowest number that is free
  {
    const auto file = WeightFile::open(path);
    REQUIRE(file.ok());
    CHECK((::fcntl(before, F_GETFD) & FD_CLOEXEC) != 0);
  }
  CHECK(::fcntl(before, F_GETFD) == -1);
  CHECK_FALSE(WeightFile::open(write(dir, "n", "not a model")).ok());
  CHECK(::fcntl(before, F_GETFD) == -1);
}

TEST_CASE("two threads read one file") {
  XC_RANDOM(random);
  const TempDir dir;
  std::vector<std::uint16_t> stored(300'000);
  std::vector<float> expected;
  for (std::uint16_t& bits : stored) {
    const int value = random.integer(0, 0x7F7F);
    bits = static_cast<std::uint16_t>(value);
    const std::uint32_t wide = static_cast<std::uint32_t>(value) << 16;
    std::memcpy(&expected.emplace_back(), &wide, sizeof(wide));
  }
  const auto file = WeightFile::open(write(dir, "m", one_tensor("BF16", stored)));
  REQUIRE(file.ok());
  std::atomic<int> equal{0};
  const auto work = [&] {
    for (int i = 0; i < 20; ++i) {
      std::vector<float> values(stored.size());
      if ((*file)->read(*(*file)->find("t"), values).ok() && values == expected) {
        ++equal;
      }
    }
  };
  std::thread other(work);
  work();
  other.join();
  CHECK(equal == 40);
}

TEST_CASE("what a header claims costs no memory") {
  const std::string million(1'000'000, '[');
  for (const std::string& bytes :
       {safetensors_bytes(
            "{" + entry_json("a", "F32", "[250000000000]", 0, 1'000'000'000'000) + "}", ""),
        std::string("\0\xE1\xF5\x05\0\0\0\0{}", 10), safetensors_bytes(million, ""),
        safetensors_bytes("{\"a\":{\"shape\":[0" + std::string(1000, ' ') + "]", million)}) {
    const std::span<const std::byte> memory = std::as_bytes(std::span(bytes));
    const std::uint64_t before = allocations::total_bytes();
    CHECK_FALSE(WeightFile::from_memory(memory).ok());
    CHECK(allocations::total_bytes() - before < 16'384 + 8 * bytes.size());
  }
}

TEST_CASE("every allocation that fails is an error, and nothing is lost") {
  const TempDir dir;
  const std::string path =
      write(dir, "m",
            safetensors_bytes(
                "{\"__metadata__\":{\"a key longer than a short string\":\"v\"}," +
                    entry_json("a name longer than a short string", "F16", "[2]", 0, 4) + "}",
                std::string(4, '\0')));
  int failures = 0;
  for (bool done = false; !done; ++failures) {
    allocations::fail_after(failures);
    auto file = WeightFile::open(path);
    Status status = file.status();
    if (file.ok()) {
      float values[2] = {};
      status = (*file)->read((*file)->entries()[0], values);
      if (status.ok()) {
        status = (*file)->sha256().status();
      }
    }
    done = allocations::cancel_failure();  // it lay beyond the last allocation
    CHECK(status.code() == (done ? Code::kOk : Code::kOutOfMemory));
  }
  CHECK(failures > 10);
}

}  // namespace xception
