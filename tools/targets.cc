#include "targets.h"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

#include "engine/atomic_file.h"

namespace xception::cli {
namespace {

// A file that an option names for writing.
struct Target {
  std::string option;
  std::string path;
  bool exists = false;  // as a regular file; only those are replaced
  struct stat info {};
  std::string resolved;  // for a file that is still to come
};

Target make_target(std::string option, const std::string& path) {
  Target target;
  target.option = std::move(option);
  target.path = path;
  target.exists = ::stat(path.c_str(), &target.info) == 0 && S_ISREG(target.info.st_mode);
  target.resolved = behind_links(path);
  return target;
}

bool same_file(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

Status clash(const Target& target, const std::string& what) {
  return {Code::kInvalidArgument,
          target.option + " '" + target.path + "' is " + what + "; name another file"};
}

// Whether the target is the file `path`, or standard input where it is "-".
bool is_file(const Target& target, const std::string& path) {
  struct stat info {};
  const int failed = path == "-" ? ::fstat(STDIN_FILENO, &info) : ::stat(path.c_str(), &info);
  return failed == 0 && same_file(info, target.info);
}

bool is_stream(const Target& target, int descriptor) {
  struct stat info {};
  return ::fstat(descriptor, &info) == 0 && same_file(info, target.info);
}

// What is read beside a weight file, if it is there.
std::string config_beside(const std::string& model) {
  return (std::filesystem::path(model).parent_path() / "config.json").string();
}

// --dump-layers writes files named after layers, as other arrays may be.
Status check_layer_folder(const Options& options, const std::vector<Input>& inputs) {
  if (options.dump_layers.empty()) {
    return {};
  }
  const std::pair<const char*, const std::string&> others[] = {
      {"the model", options.model},
      {"the golden file", options.compare},
      {"the file of labels", options.labels},
      {"the list of names", options.files_from},
      {"the array that is fed", options.raw_input},
      {"--dump-input", options.dump_input},
      {"--output", options.output}};
  const std::string folder = behind_links(options.dump_layers);
  const auto is_inside = [&](const std::filesystem::path& path) {
    const std::filesystem::path parent = path.has_parent_path() ? path.parent_path() : ".";
    return path.extension() == ".npy" && behind_links(parent.string()) == folder;
  };
  const auto check = [&](const char* what, const std::string& path) -> Status {
    if (path.empty() || path == "-") {
      return {};
    }
    // A link may lie there, or lead there.
    return !is_inside(path) && !is_inside(behind_links(path))
               ? Status()
               : Status(Code::kInvalidArgument,
                        "--dump-layers '" + options.dump_layers + "' is the folder of " + what +
                            ", and a layer might be written over it; name another folder");
  };
  for (const auto& [what, path] : others) {
    XC_RETURN_IF_ERROR(check(what, path));
  }
  for (const Input& input : inputs) {
    XC_RETURN_IF_ERROR(check("one of the inputs", input.path()));
  }
  return {};
}

Status check_target(const Target& target, const Options& options,
                    const std::vector<Input>& inputs) {
  if (!target.exists) {
    return {};
  }
  const std::pair<const char*, std::string> read[] = {
      {"the model", options.model},
      {"the config.json of the model", config_beside(options.model)},
      {"the file of labels", options.labels},
      {"the list of names", options.files_from},
      {"the array that is fed", options.raw_input}};
  for (const auto& [what, path] : read) {
    if (is_file(target, path)) {
      return clash(target, what);
    }
  }
  for (const Input& input : inputs) {
    if (is_file(target, input.path())) {
      return clash(target, "one of the inputs");
    }
  }
  // --output writes to these; an array would take the file's name, and what they write the file's
  // end.
  for (const auto& [what, descriptor] :
       {std::pair("standard output", STDOUT_FILENO), std::pair("standard error", STDERR_FILENO)}) {
    if (target.option == "--dump-input" && is_stream(target, descriptor)) {
      return clash(target, std::string("where ") + what + " goes");
    }
  }
  return {};
}

}  // namespace

Status check_targets(const Options& options, const std::vector<Input>& inputs) {
  XC_RETURN_IF_ERROR(check_layer_folder(options, inputs));
  std::vector<Target> targets;
  if (!options.output.empty()) {
    targets.push_back(make_target("--output", options.output));
  }
  if (!options.dump_input.empty()) {
    targets.push_back(make_target("--dump-input", options.dump_input));
  }
  for (const Target& target : targets) {
    XC_RETURN_IF_ERROR(check_target(target, options, inputs));
  }
  if (targets.size() == 2) {
    const bool same =
        targets[0].exists && targets[1].exists
            ? same_file(targets[0].info, targets[1].info)
            : !targets[0].resolved.empty() && targets[0].resolved == targets[1].resolved;
    if (same) {
      return clash(targets[1], "the file of --output");
    }
  }
  return {};
}

}  // namespace xception::cli
