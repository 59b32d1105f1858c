#include "inputs.h"

#include <dirent.h>
#include <sys/stat.h>
#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <memory>
#include <set>
#include <string_view>
#include <utility>

#include "name_list.h"

namespace xception::cli {
namespace {

constexpr std::array kEndings = {"jpg", "jpeg", "jpe", "jfif", "png", "bmp", "gif",
                                 "ppm", "pgm",  "pbm", "pnm",  "tga", "psd"};

bool has_image_ending(const std::string& name) {
  const std::size_t dot = name.rfind('.');
  if (dot == std::string::npos) {
    return false;
  }
  std::string ending = name.substr(dot + 1);
  std::transform(ending.begin(), ending.end(), ending.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return std::find(kEndings.begin(), kEndings.end(), ending) != kEndings.end();
}

constexpr std::size_t kMostInputs = std::size_t{1} << 21;
constexpr std::size_t kMostNameBytes = std::size_t{256} << 20;

class Lister {
 public:
  Lister(bool recursive, std::vector<Input>& inputs) : recursive_(recursive), inputs_(inputs) {}

  // There are more inputs than there may be; those above are left out.
  bool full() const { return full_; }

  void add_stdin() { push({.name = "-", .is_stdin = true}); }

  // A file, or a folder with what is in it. Says whether that gave any input.
  bool add(const std::string& name) {
    const std::size_t before = inputs_.size();
    struct stat info {};
    const bool found = ::stat(name.c_str(), &info) == 0;
    if (found && S_ISDIR(info.st_mode)) {
      visited_.clear();
      add_folder(name, info);
    } else if (name.empty()) {
      push({name, {Code::kNotFound, "an empty name is no file"}});
    } else {
      // One that is not there is told of when it is opened.
      push({name});
    }
    return inputs_.size() > before || full_;
  }

 private:
  // Names in a folder that may be pictures or, where it matters, folders; sorted. errno where it
  // cannot be read.
  int list_names(const std::string& path, std::vector<std::string>& names) {
    const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(path.c_str()), ::closedir);
    if (folder == nullptr) {
      return errno;
    }
    std::size_t bytes = 0;
    const auto next = [&] {
      errno = 0;
      return ::readdir(folder.get());
    };
    while (const dirent* entry = next()) {
      const bool may_be_folder =
          entry->d_type == DT_DIR || entry->d_type == DT_LNK || entry->d_type == DT_UNKNOWN;
      if (entry->d_name[0] == '.' ||
          !(has_image_ending(entry->d_name) || (recursive_ && may_be_folder))) {
        continue;
      }
      names.emplace_back(entry->d_name);
      bytes += names.back().size();
      full_ = full_ || names.size() > kMostInputs || bytes > kMostNameBytes;
      if (full_) {
        break;
      }
    }
    const int error = full_ ? 0 : errno;
    std::sort(names.begin(), names.end());
    return error;
  }

  void push(Input input) {
    name_bytes_ += input.name.size();
    full_ = full_ || inputs_.size() == kMostInputs || name_bytes_ > kMostNameBytes;
    if (!full_) {
      inputs_.push_back(std::move(input));
    }
  }

  void add_folder(const std::string& path, const struct stat& info) {
    if (!visited_.emplace(info.st_dev, info.st_ino).second) {
      return;
    }
    std::vector<std::string> names;
    if (const int error = list_names(path, names); error != 0) {
      push({path, {Code::kIo, "cannot list '" + path + "': " + std::strerror(error)}});
      return;
    }
    const std::string prefix = path.back() == '/' ? path : path + '/';
    for (const std::string& name : names) {
      if (full_) {
        return;
      }
      add_entry(prefix + name, has_image_ending(name));
    }
  }

  void add_entry(const std::string& path, bool image) {
    struct stat info {};
    const bool found = ::stat(path.c_str(), &info) == 0;
    if (found && S_ISDIR(info.st_mode)) {
      if (recursive_) {
        add_folder(path, info);
      }
    } else if (image && (!found || S_ISREG(info.st_mode))) {
      push({path});
    } else if (!found && errno == ENAMETOOLONG && recursive_) {
      push({path,
            {Code::kIo, "cannot look at '" + path + "': " + std::strerror(ENAMETOOLONG) +
                            "; start from a folder further down"}});
    }
  }

  bool recursive_;
  std::vector<Input>& inputs_;
  std::size_t name_bytes_ = 0;
  bool full_ = false;
  std::set<std::pair<dev_t, ino_t>> visited_;
};

}  // namespace

Result<std::vector<Input>> list_inputs(const Options& options, std::vector<std::string>& notes) {
  std::vector<Input> inputs;
  Lister lister(options.recursive, inputs);
  const auto add = [&](const std::string& name) {
    if (!lister.add(name)) {
      notes.push_back("no images in '" + name + "'" +
                      (options.recursive ? "" : "; --recursive looks into its folders too"));
    }
  };
  for (const std::string& name : options.inputs) {
    if (name == "-") {
      lister.add_stdin();
    } else {
      add(name);
    }
  }
  if (!options.files_from.empty()) {
    const Result<std::vector<std::string>> names =
        read_name_list(options.files_from, options.null_separated ? '\0' : '\n', "names",
                       "; names that end in NUL take -0");
    XC_RETURN_IF_ERROR(names.status());
    bool any = false;
    for (const std::string& name : *names) {
      if (!name.empty()) {
        add(name);
        any = true;
      }
    }
    if (!any) {
      notes.push_back(options.files_from == "-" ? "no names on standard input"
                                                : "no names in '" + options.files_from + "'");
    }
  }
  if (lister.full()) {
    return Status(Code::kInvalidArgument, "more than " + std::to_string(kMostInputs) +
                                              " inputs, or than 256 MiB of their names; classify "
                                              "them in several runs");
  }
  if (inputs.empty()) {
    const std::string why = notes.empty() ? "no inputs" : notes.front();
    notes.clear();
    return Status(Code::kInvalidArgument, why);
  }
  return inputs;
}

}  // namespace xception::cli
