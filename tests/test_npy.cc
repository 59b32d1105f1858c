#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include "temp_dir.h"
#include "testing.h"
#include "xception/image.h"

using namespace xception;
namespace fs = std::filesystem;

namespace {

std::string npy(const std::string& dict, const std::string& data, char major = 1, char minor = 0) {
  std::string file("\x93NUMPY", 6);
  file += {major, minor};
  for (int byte = 0; byte < (major > 1 ? 4 : 2); ++byte) {
    file += static_cast<char>(dict.size() >> 8 * byte & 0xFF);
  }
  return file + dict + data;
}

Result<NpyArray> parse(const std::string& file) {
  return parse_npy(std::as_bytes(std::span<const char>(file)));
}

constexpr const char* kU8 = "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3), }   \n";

void check_refused(const std::string& file, const std::string& part) {
  const Result<NpyArray> array = parse(file);
  INFO(file);
  REQUIRE_FALSE(array.ok());
  CHECK(array.status().code() == Code::kBadImage);
  INFO(array.status().message());
  CHECK(array.status().message().find(part) != std::string::npos);
}

}  // namespace

TEST_CASE("uint8 and float32 arrays of all three versions") {
  for (const char major : {char{1}, char{2}, char{3}}) {
    const Result<NpyArray> array = parse(npy(kU8, "abcdef", major));
    REQUIRE(array.ok());
    CHECK(array->type == NpyArray::Type::kU8);
    CHECK(array->shape == std::vector<std::int64_t>{2, 3});
    CHECK(array->data.size() == 6);
    CHECK(std::to_integer<char>(array->data[5]) == 'f');
  }
  const Result<NpyArray> one = parse(
      npy("{\"shape\":(),\"fortran_order\":False,\"descr\":\"<f4\"}", std::string("\0\0\x80?", 4)));
  REQUIRE(one.ok());
  float value = 0;
  std::memcpy(&value, one->data.data(), 4);
  CHECK(value == 1.0F);
  CHECK(one->shape.empty());
  const Result<NpyArray> empty =
      parse(npy("{'descr':'<f4','fortran_order':False,'shape':(7,0)}", ""));
  REQUIRE(empty.ok());
  CHECK(empty->data.empty());
}

TEST_CASE("A header of version 2 may be longer than 64 KiB, and none longer than 1 MiB") {
  const auto padded = [](std::size_t size) {
    const std::string dict = "{'descr': '|u1', 'fortran_order': False, 'shape': ()}";
    return npy(dict + std::string(size - dict.size(), ' '), "a", 2);
  };
  CHECK(parse(padded(70'000)).ok());
  CHECK(parse(padded(1 << 20)).ok());
  const Status status = parse(padded((1 << 20) + 1)).status();
  CHECK(status.code() == Code::kBadImage);
  CHECK_THAT(status.message(), containing("a header of more than 1 MiB"));
}

TEST_CASE("Every beginning of a file is refused, and so is every byte more") {
  const std::string file = npy(kU8, "abcdef");
  for (std::size_t size = 0; size < file.size(); ++size) {
    check_refused(file.substr(0, size), "");
  }
  check_refused(file + "g", "7 bytes of data where its shape takes 6");
}

TEST_CASE("Headers that are not what NumPy writes are refused") {
  const auto with = [](const std::string& shape) {
    return npy("{'descr': '|u1', 'fortran_order': False, 'shape': " + shape + "}", "");
  };
  for (const char* shape : {"(3)", "(3 4)", "(-1,)", "(,)", "(1,,2)", "3", "[3]", "(3,", "(0x3,)",
                            "(1.0,)", "(12345678901234567890,)"}) {
    check_refused(with(shape), "damaged header");
  }
  check_refused(with("(4294967296, 4294967296, 4294967296)"), "cut short");
  check_refused(with("(999999999999999999, 999999999999999999)"), "cut short");
  check_refused(npy("{'descr': '|u1', 'fortran_order': False}", ""), "damaged header");
  check_refused(npy("{'descr': '|u1', 'descr': '|u1', 'fortran_order': False, 'shape': ()}", "a"),
                "damaged header");
  check_refused(npy("{'descr': '|u1', 'fortran_order': False, 'shape': (), 'shape': ()}", "a"),
                "damaged header");
  check_refused(
      npy("{'descr': '|u1', 'fortran_order': False, 'fortran_order': False, 'shape': ()}", "a"),
      "damaged header");
  check_refused(npy("{'descr': '|u1', 'fortran_order': False, 'shape': (), 'x': 1}", "a"),
                "damaged header");
  check_refused(npy("{'descr': '|u1', 'fortran_order': False, 'shape': ()} x", "a"),
                "damaged header");
  check_refused(npy("{'descr': '>f4', 'fortran_order': False, 'shape': ()}", "abcd"), "'>f4'");
  check_refused(npy("{'descr': '<f8', 'fortran_order': False, 'shape': ()}", "abcdefgh"), "'<f8'");
  for (const char* fields : {"[('r', '|u1'), ('g', '<f4', (2,))]", "[(')]', '|u1')]", "[]"}) {
    check_refused(
        npy("{'descr': " + std::string(fields) + ", 'fortran_order': False, 'shape': ()}", "a"),
        "holds records of several fields");
  }
  check_refused(npy("{'descr': [('r', '|u1'), 'fortran_order': False, 'shape': ()}", "a"),
                "damaged header");
  check_refused(npy("{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3)}", "abcdef"),
                "Fortran");
  check_refused(npy(kU8, "abcdef", 4), "version 4.0");
  check_refused(npy(kU8, "abcdef", 1, 1), "version 1.1");
  check_refused("PK\x03\x04 an .npz", "numpy.save");
}

TEST_CASE("Writing: what was written is read back, and a failure leaves no file") {
  const TempDir folder;
  const std::string path = folder.path("x.npy");
  const std::vector<float> data = {1, 2, 3, 4, 5, 6};
  for (const std::vector<std::int64_t>& shape :
       {std::vector<std::int64_t>{6}, {1, 2, 3}, {1, 1, 6, 1}}) {
    REQUIRE(write_npy(path, shape, data.data()).ok());
    const Result<NpyArray> array = read_npy(path);
    REQUIRE(array.ok());
    CHECK(array->shape == shape);
    CHECK(array->type == NpyArray::Type::kF32);
    CHECK(std::memcmp(array->data.data(), data.data(), 24) == 0);
    CHECK(fs::file_size(path) % 64 == 24);
  }
  CHECK(read_npy(folder.path("none.npy")).status().code() == Code::kNotFound);
  const Status missing = write_npy(folder.path("none/x.npy"), {6}, data.data());
  CHECK(missing.code() == Code::kIo);
  CHECK(missing.message().find("none") != std::string::npos);
  CHECK(write_npy(folder.path(), {6}, data.data()).code() == Code::kIo);
  const Status cut = write_npy(path + '\0' + "b", {6}, data.data());
  CHECK(cut.code() == Code::kInvalidArgument);
  CHECK(cut.message() == "cannot write '" + path + "': its name has a zero byte in it");
  CHECK(write_npy(path, {-1}, data.data()).code() == Code::kInvalidArgument);
  CHECK(write_npy(path, std::vector<std::int64_t>(4, 1 << 30), data.data()).code() ==
        Code::kInvalidArgument);
  CHECK(write_npy(path, std::vector<std::int64_t>(65, 1), data.data()).code() ==
        Code::kInvalidArgument);
  CHECK(write_npy(path, std::vector<std::int64_t>(64, 1), data.data()).ok());
  CHECK(folder.entries() == 1);
}

TEST_CASE("A full disk is an error, and the old file stays") {
  if (!fs::exists("/dev/full")) {
    return;
  }
  CHECK(write_npy("/dev/full", {1}, std::vector<float>{1}.data()).code() == Code::kIo);
  CHECK(fs::is_character_file("/dev/full"));
}
