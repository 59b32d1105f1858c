// Files that appear when they are complete.
#include "engine/atomic_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>

#include "testing.h"

using namespace xception;
namespace fs = std::filesystem;

namespace {

struct Folder {
  Folder() {
    std::string pattern = (fs::temp_directory_path() / "xception_file_XXXXXX").string();
    path = ::mkdtemp(pattern.data());
  }
  ~Folder() { fs::remove_all(path); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  std::string operator/(const char* name) const { return (path / name).string(); }
  std::size_t files() const {
    return static_cast<std::size_t>(
        std::distance(fs::directory_iterator(path), fs::directory_iterator()));
  }

  fs::path path;
};

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
  const Folder folder;
  replace(folder / "x", "older");
  CHECK(::chmod((folder / "x").c_str(), 0640) == 0);
  for (const bool finished : {false, true}) {
    {
      AtomicFile file;
      write(file, folder / "x", "newer");
      CHECK(content(folder / "x") == "older");
      CHECK(folder.files() == 2);
      CHECK((!finished || file.finish().ok()));
    }
    CHECK(content(folder / "x") == (finished ? "newer" : "older"));
    CHECK(folder.files() == 1);
    struct stat info {};
    CHECK(::stat((folder / "x").c_str(), &info) == 0);
    CHECK((info.st_mode & 0777) == 0640);
  }
}

TEST_CASE("A file that is kept stays beside the older one, and is in nobody's way") {
  const Folder folder;
  replace(folder / "x", "older");
  std::string kept[2];
  for (std::string& name : kept) {
    AtomicFile file;
    write(file, folder / "x", "part");
    Result<std::string> left = file.keep();
    REQUIRE(left.ok());
    name = *left;
  }
  CHECK(kept[0] ==
        fs::canonical(folder / "x").string() + "." + std::to_string(::getpid()) + ".part");
  CHECK(kept[0] != kept[1]);
  replace(folder / "x", "newer");
  CHECK(content(folder / "x") == "newer");
  CHECK(content(kept[0]) == "part");
  CHECK(content(kept[1]) == "part");
  CHECK(folder.files() == 3);
}

TEST_CASE("Of two files under one name the one that is finished last stays") {
  const Folder folder;
  std::optional<AtomicFile> first(std::in_place);
  AtomicFile second;
  write(*first, folder / "x", "first");
  write(second, folder / "x", "second");
  REQUIRE(second.finish().ok());
  REQUIRE(first->finish().ok());
  CHECK(content(folder / "x") == "first");
  first.reset();
  CHECK(content(folder / "x") == "first");
  CHECK(folder.files() == 1);
}

TEST_CASE("Symbolic links stay, and the file behind them is written") {
  const Folder folder;
  fs::create_directory(folder / "below");
  fs::create_symlink("below/new", folder / "first");
  fs::create_symlink(folder / "first", folder / "second");
  for (const char* text : {"new", "newer"}) {  // at first there is no such file
    replace(folder / "second", text);
    CHECK(content(folder / "below/new") == text);
    CHECK(fs::is_symlink(folder / "first"));
    CHECK(fs::is_symlink(folder / "second"));
  }
  fs::create_symlink("round", folder / "trip");
  fs::create_symlink("trip", folder / "round");
  AtomicFile file;
  const Status endless = file.open(folder / "trip");
  CHECK(endless.code() == Code::kIo);
  CHECK(endless.message().find("symbolic links") != std::string::npos);
  CHECK(file.descriptor() == -1);
  CHECK(fs::is_symlink(folder / "trip"));
}

TEST_CASE("What is no regular file, and a folder that is not there, are refused") {
  const Folder folder;
  for (const std::string& path :
       {folder.path.string(), std::string("/dev/null"), folder / "no/x"}) {
    AtomicFile file;
    const Status status = file.open(path);
    CHECK(status.code() == Code::kIo);
    CHECK(status.message().find("'" + path + "'") != std::string::npos);
  }
  CHECK(folder.files() == 0);
}
