#include "engine/model.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

#include "engine/byte_source.h"
#include "engine/metadata.h"
#include "engine/no_throw.h"
#include "engine/safetensors_header.h"

namespace xception {
namespace {

// Files below this are checked against their SHA-256 without being asked: it takes a moment.
constexpr std::uint64_t kVerifyBelow = std::uint64_t{64} << 20;

// The text of config.json beside `path`, empty where there is none. Of a long one as much as it
// takes to be refused by its reader. Fails with kBadModel where it is there and cannot be read.
Result<std::string> read_config_beside(const std::string& path) {
  namespace fs = std::filesystem;
  constexpr std::uint64_t kMostBytes = std::uint64_t{8} << 20;
  const fs::path config = fs::path(path).parent_path() / "config.json";
  // A folder or a pipe of that name is none, and a pipe would be waited for.
  std::error_code error;
  const fs::file_type type = fs::status(config, error).type();
  if (type != fs::file_type::regular && type != fs::file_type::none) {
    return std::string();
  }
  const Result<std::unique_ptr<const ByteSource>> file =
      ByteSource::open_file(config.string(), "file");
  Status status = file.status();
  std::string text;
  if (status.ok()) {
    text.resize(std::min((*file)->size(), kMostBytes));
    status = (*file)->read(0, std::as_writable_bytes(std::span(text)));
  }
  if (!status.ok()) {
    return Status(Code::kBadModel, "config.json beside the weight file cannot be read (" +
                                       status.message() + "); repair or remove it");
  }
  return text;
}

Status verify(const WeightFile& file, bool wanted) {
  const auto expected = file.metadata().find("xception.sha256");
  if (expected == file.metadata().end()) {
    return wanted ? Status(Code::kBadModel,
                           "there is no 'xception.sha256' in its metadata to verify against; "
                           "export the model again with weights/export.py")
                  : Status();
  }
  if (!wanted && file.data_bytes() >= kVerifyBelow) {
    return {};
  }
  const Result<std::string> actual = file.sha256();
  XC_RETURN_IF_ERROR(actual.status());
  if (*actual != expected->second) {
    return {Code::kBadModel, "its data have SHA-256 " + *actual + ", its header promises " +
                                 quoted_name(expected->second) +
                                 "; the file is damaged, fetch it again"};
  }
  return {};
}

template <class Load>
Result<std::shared_ptr<const Model>> guarded(const std::string& name, Load&& load) {
  return no_throw([&] { return "not enough memory to load model '" + name + "'"; }, load);
}

Result<std::shared_ptr<const Model>> load_file(std::shared_ptr<const WeightFile> file,
                                               const Result<std::string>& config_json,
                                               const ModelOptions& options) {
  const std::string& context = file->title();
  XC_RETURN_IF_ERROR(verify(*file, options.verify).with_context(context));
  Result<Network> network = build_network(*file, config_json, options.arch);
  if (!network.ok()) {
    return network.status().code() == Code::kInvalidArgument
               ? network.status()
               : network.status().with_context(context);
  }
  auto impl = std::make_unique<Model::Impl>();
  impl->file = std::move(file);
  impl->network = *std::move(network);
  return std::shared_ptr<const Model>(std::make_shared<Model>(std::move(impl)));
}

}  // namespace

Model::Model(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
Model::~Model() = default;

const ModelInfo& Model::info() const { return impl_->network.info; }

Result<std::shared_ptr<const Model>> Model::load(const std::string& path,
                                                 const ModelOptions& options) {
  return guarded(path, [&]() -> Result<std::shared_ptr<const Model>> {
    Result<std::shared_ptr<const WeightFile>> file = WeightFile::open(path);
    XC_RETURN_IF_ERROR(file.status());
    // Our own files say everything themselves, whatever stands beside them.
    const bool is_ours = (*file)->metadata().count("xception.arch") > 0;
    return load_file(*file, is_ours ? std::string() : read_config_beside(path), options);
  });
}

Result<std::shared_ptr<const Model>> Model::load(std::vector<std::byte>&& bytes,
                                                 const ModelOptions& options) {
  struct Owner {
    std::vector<std::byte> bytes;
    std::shared_ptr<const WeightFile> file;
  };
  return guarded("(memory)", [&]() -> Result<std::shared_ptr<const Model>> {
    const auto owner = std::make_shared<Owner>();
    owner->bytes = std::move(bytes);
    Result<std::shared_ptr<const WeightFile>> file = WeightFile::from_memory(owner->bytes);
    XC_RETURN_IF_ERROR(file.status());
    owner->file = *std::move(file);
    return load_file({owner, owner->file.get()}, std::string(), options);
  });
}

Result<std::shared_ptr<const Model>> Model::load(std::span<const std::byte> bytes,
                                                 const ModelOptions& options) {
  return guarded("(memory)", [&]() -> Result<std::shared_ptr<const Model>> {
    Result<std::shared_ptr<const WeightFile>> file = WeightFile::from_memory(bytes);
    XC_RETURN_IF_ERROR(file.status());
    return load_file(*file, std::string(), options);
  });
}

}  // namespace xception
