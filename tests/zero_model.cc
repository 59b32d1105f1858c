#include "zero_model.h"

#include <sys/mman.h>

#include <cctype>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>

#include "engine/networks.h"
#include "safetensors_bytes.h"
#include "testing.h"

namespace xception {

// Asks the network's builder for one tensor after the other: its message says which is missing and
// what shape it must have.
ZeroModel::ZeroModel(const std::string& arch) {
  std::vector<Tensor> tensors = {{"fc.bias", "[10]", 10}, {"fc.weight", "[10, 2048]", 20480}};
  for (;;) {
    load(tensors);
    auto network = build_network(*file_, std::string(), arch);
    if (network.ok()) {
      graph_ = std::move(network->graph);
      return;
    }
    const std::string& message = network.status().message();
    INFO(message);
    constexpr std::string_view kMissing = "' is missing; expected shape ";
    const std::size_t end = message.rfind(kMissing);
    REQUIRE(end != std::string::npos);
    const std::size_t begin = message.rfind('\'', end - 1) + 1;
    Tensor tensor{message.substr(begin, end - begin), message.substr(end + kMissing.size()), 1};
    for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
      if (std::isdigit(static_cast<unsigned char>(tensor.shape[i])) != 0) {
        std::size_t digits = 0;
        tensor.elements *= std::stoll(tensor.shape.substr(i), &digits);
        i += digits;
      }
    }
    REQUIRE(tensor.elements > 0);
    tensors.push_back(std::move(tensor));
    REQUIRE(tensors.size() < 1000);
  }
}

void ZeroModel::load(const std::vector<Tensor>& tensors) {
  std::string entries;
  std::uint64_t end = 0;
  for (const Tensor& tensor : tensors) {
    const std::uint64_t begin = end;
    end += static_cast<std::uint64_t>(tensor.elements) * sizeof(float);
    entries +=
        (entries.empty() ? "" : ",") + entry_json(tensor.name, "F32", tensor.shape, begin, end);
  }
  const std::string header = safetensors_bytes("{" + entries + "}", "");
  if (memory_ != nullptr) {
    munmap(memory_, bytes_);
  }
  bytes_ = header.size() + end;
  memory_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  REQUIRE(memory_ != MAP_FAILED);
  std::memcpy(memory_, header.data(), header.size());
  auto file = WeightFile::from_memory(std::span(static_cast<const std::byte*>(memory_), bytes_));
  INFO(file.status().message());
  REQUIRE(file.ok());
  file_ = *std::move(file);
}

ZeroModel::~ZeroModel() {
  if (memory_ != nullptr) {
    munmap(memory_, bytes_);
  }
}

}  // namespace xception
