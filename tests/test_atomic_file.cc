// Files that appear when they are complete.
#include "engine/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>

#include "temp_dir.h"
#include "testing.h"

using namespace xception;
namespace fs = std::filesystem;

namespace {

std::string content(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write(AtomicFile& file, const std::string& path, const std::string& text) {
  REQUIRE(file.open(path).ok());
  REQUIRE(file.write(text.data(), text.size()).ok());
}

void replace(const std::string& path, const std::string& text) {
  AtomicFile file;
  write(file, path, text);
  REQUIRE(file.finish().ok());
}

}  // namespace

TEST_CASE("A file is the older one until it is finished, and for good where it is not") {
  const TempDir folder;
  replace(folder.path("x"), "older");
  CHECK(::chmod((folder.path("x")).c_str(), 0640) == 0);
  for (const bool finished : {false, true}) {
    {
      AtomicFile file;
      write(file, folder.path("x"), "newer");
      CHECK(content(folder.path("x")) == "older");
      CHECK(folder.entries() == 2);
      CHECK((!finished || file.finish().ok()));
    }
    CHECK(content(folder.path("x")) == (finished ? "newer" : "older"));
    CHECK(folder.entries() == 1);
    struct stat info {};
    CHECK(::stat((folder.path("x")).c_str(), &info) == 0);
    CHECK((info.st_mode & 0777) == 0640);
  }
}

TEST_CASE("No descriptor is left open, finished or not") {
  const TempDir folder;
  const int before = ::dup(0);
  REQUIRE(before >= 0);
  ::close(before);  // the lowest number that is free
  replace(folder.path("x"), "text");
  {
    AtomicFile abandoned;
    write(abandoned, folder.path("x"), "text");
    CHECK(abandoned.descriptor() == before);
  }
  CHECK(::fcntl(before, F_GETFD) == -1);
}

TEST_CASE("A path that ends in a slash is no file's") {
  const TempDir folder;
  AtomicFile file;
  for (const char* path : {"x/", "x/y/"}) {
    CHECK(file.open(folder.path(path)).message() ==
          "cannot write '" + folder.path(path) + "': it names a folder");
  }
  CHECK(folder.entries() == 0);
  replace(folder.path("file"), "text");
  for (const char* path : {"file/", "file/x"}) {
    CHECK(file.open(folder.path(path)).message() ==
          "cannot write '" + folder.path(path) + "': Not a directory");
  }
}

TEST_CASE("A name may be as long as the system lets it") {
  const TempDir folder;
  const std::string longest(255, 'x');
  replace(folder.path(longest), "older");
  replace(folder.path(longest), "newer");
  CHECK(content(folder.path(longest)) == "newer");
  CHECK(folder.entries() == 1);
  AtomicFile file;
  CHECK((file.open(folder.path(longest + 'x')).ok() == false || file.finish().ok() == false));
}

TEST_CASE("A file that is kept stays beside the older one, and is in nobody's way") {
  const TempDir folder;
  replace(folder.path("x"), "older");
  std::string kept[2];
  for (std::string& name : kept) {
    AtomicFile file;
    write(file, folder.path("x"), "part");
    Result<std::string> left = file.keep();
    REQUIRE(left.ok());
    name = *left;
  }
  CHECK(kept[0] ==
        fs::canonical(folder.path("x")).string() + "." + std::to_string(::getpid()) + ".part");
  CHECK(kept[0] != kept[1]);
  replace(folder.path("x"), "newer");
  CHECK(content(folder.path("x")) == "newer");
  CHECK(content(kept[0]) == "part");
  CHECK(content(kept[1]) == "part");
  CHECK(folder.entries() == 3);
}

TEST_CASE("Of two files under one name the one that is finished last stays") {
  const TempDir folder;
  std::optional<AtomicFile> first(std::in_place);
  AtomicFile second;
  write(*first, folder.path("x"), "first");
  write(second, folder.path("x"), "second");
  REQUIRE(second.finish().ok());
  REQUIRE(first->finish().ok());
  CHECK(content(folder.path("x")) == "first");
  first.reset();
  CHECK(content(folder.path("x")) == "first");
  CHECK(folder.entries() == 1);
}

TEST_CASE("Symbolic links stay, and the file behind them is written") {
  const TempDir folder;
  fs::create_directory(folder.path("below"));
  fs::create_symlink("below/new", folder.path("first"));
  fs::create_symlink(folder.path("first"), folder.path("second"));
  for (const char* text : {"new", "newer"}) {  // at first there is no such file
    replace(folder.path("second"), text);
    CHECK(content(folder.path("below/new")) == text);
    CHECK(fs::is_symlink(folder.path("first")));
    CHECK(fs::is_symlink(folder.path("second")));
  }
  fs::create_symlink("round", folder.path("trip"));
  fs::create_symlink("trip", folder.path("round"));
  AtomicFile file;
  const Status endless = file.open(folder.path("trip"));
  CHECK(endless.code() == Code::kIo);
  CHECK(endless.message().find("symbolic links") != std::string::npos);
  CHECK(file.descriptor() == -1);
  CHECK(fs::is_symlink(folder.path("trip")));
}

TEST_CASE("What is no regular file, and a folder that is not there, are refused") {
  const TempDir folder;
  for (const std::string& path : {folder.path(), std::string("/dev/null"), folder.path("no/x")}) {
    AtomicFile file;
    const Status status = file.open(path);
    CHECK(status.code() == Code::kIo);
    CHECK(status.message().find("'" + path + "'") != std::string::npos);
  }
  CHECK(folder.entries() == 0);
}
