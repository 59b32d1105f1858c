#include "compare.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "batch.h"
#include "engine/safetensors.h"
#include "layer_dump.h"
#include "message.h"
#include "network.h"
#include "output.h"
#include "table.h"
#include "targets.h"

namespace xception::cli {
namespace {

const std::string kLayerPrefix = "layer.";

struct Distance {
  double difference = 0;  // max|d|, NaN where there is one
  double reference = 0;   // max|ref|
};

// `values` are NHWC, `reference` is NCHW.
Distance measure(std::span<const float> values, const Shape& shape,
                 const std::vector<float>& reference) {
  std::vector<float> nchw(values.size());
  to_nchw(values.data(), shape, nchw.data());
  Distance distance;
  for (std::size_t i = 0; i < nchw.size(); ++i) {
    const double d = std::abs(static_cast<double>(nchw[i]) - static_cast<double>(reference[i]));
    if (std::isnan(d)) {
      distance.difference = d;
    } else if (!std::isnan(distance.difference)) {
      distance.difference = std::max(distance.difference, d);
    }
    distance.reference = std::max(distance.reference, std::abs(static_cast<double>(reference[i])));
  }
  return distance;
}

// The logits (0, z) of two classes, of each z.
std::vector<float> behind_zeros(const std::vector<float>& outputs) {
  std::vector<float> logits;
  for (const float z : outputs) {
    logits.insert(logits.end(), {0.0F, z});
  }
  return logits;
}

class Comparison {
 public:
  Comparison(const Options& options, const WeightFile& golden)
      : options_(options),
        golden_(golden),
        table_({{"layer"},
                {"max|d|", true},
                {"max|ref|", true},
                {"ratio", true},
                {"allowed", true},
                {"verdict"}}) {}

  // Compares one layer of the plan, if the golden file has it.
  Status layer(const LayerOutput& output) {
    const TensorEntry* entry = golden_.find(kLayerPrefix + output.layer->name);
    if (entry == nullptr) {
      ++without_reference_;
      return {};
    }
    const Result<std::vector<float>> reference = read(*entry, output.layer->output);
    XC_RETURN_IF_ERROR(reference.status());
    ++layers_;
    row(output.layer->name, output.values, output.layer->output, *reference, options_.rtol);
    return {};
  }

  // `two_classes`: they are made of one output, which is what the golden file has.
  Status logits(const std::vector<float>& values, const Shape& shape, bool two_classes) {
    const TensorEntry* entry = golden_.find("logits");
    if (entry == nullptr) {
      return {};
    }
    const bool one_output = two_classes && !entry->shape.empty() && entry->shape.back() == 1;
    Result<std::vector<float>> reference =
        read(*entry, one_output ? Shape{shape.n, 1, 1, 1} : shape);
    XC_RETURN_IF_ERROR(reference.status());
    if (one_output) {
      reference = behind_zeros(*reference);
    }
    logits_ = true;
    row("logits", values, shape, *reference, options_.rtol_logits);
    count_top1(values, *reference, shape);
    return {};
  }

  bool empty() const { return layers_ == 0 && !logits_; }
  bool passed() const { return failed_ == 0; }

  std::string text() const {
    const auto in_golden = static_cast<std::size_t>(std::count_if(
        golden_.entries().begin(), golden_.entries().end(),
        [](const TensorEntry& entry) { return entry.name.rfind(kLayerPrefix, 0) == 0; }));
    const std::string top1 = logits_ ? "top-1 is equal in " + std::to_string(equal_top1_) + " of " +
                                           std::to_string(images_) + " images\n"
                                     : "";
    std::string text =
        table_.text() + '\n' + top1 + (passed() ? "PASS" : "FAIL") + ": " +
        std::to_string(layers_) + " layers" + (logits_ ? " and the logits" : "") + " compared, " +
        std::to_string(failed_) + " outside tolerance; " + std::to_string(without_reference_) +
        " layers of the plan have no reference, " + std::to_string(in_golden - layers_) +
        " of the reference are not in the plan";
    const bool fused = options_.fuse && in_golden > layers_;
    return text + (fused ? " (--fusion off keeps what is fused away)\n" : "\n");
  }

 private:
  // The values of `entry`, NCHW, if they are of the shape that the network computes.
  Result<std::vector<float>> read(const TensorEntry& entry, const Shape& shape) const {
    std::vector<std::int64_t> expected = {shape.n, shape.c, shape.h, shape.w};
    if (entry.shape.size() == 2 && shape.h == 1 && shape.w == 1) {
      expected.resize(2);
    }
    if (entry.shape != expected) {
      return Status(Code::kInvalidArgument, "tensor '" + entry.name + "' of '" + golden_.name() +
                                                "' is " + shape_string(entry.shape) +
                                                ", the network computes " + shape_string(expected) +
                                                "; feed the input that the file was made from");
    }
    std::vector<float> reference(static_cast<std::size_t>(entry.elements()));
    XC_RETURN_IF_ERROR(as_usage_failure(golden_.read(entry, reference)));
    return reference;
  }

  void row(const std::string& name, std::span<const float> values, const Shape& shape,
           const std::vector<float>& reference, double rtol) {
    const Distance distance = measure(values, shape, reference);
    const double allowed = options_.atol + rtol * distance.reference;
    const bool good = distance.difference <= allowed;  // false for NaN
    failed_ += good ? 0 : 1;
    table_.add(
        {name, scientific(distance.difference, 2), scientific(distance.reference, 2),
         distance.reference > 0 ? scientific(distance.difference / distance.reference, 2) : "-",
         scientific(allowed, 2), good ? "ok" : "FAIL"});
  }

  // Rows of logits whose largest one stands at the same class in both.
  void count_top1(const std::vector<float>& values, const std::vector<float>& reference,
                  const Shape& shape) {
    const auto top1 = [&](const std::vector<float>& logits, int image) {
      const auto begin = logits.begin() + static_cast<std::ptrdiff_t>(image) * shape.c;
      return std::max_element(begin, begin + shape.c) - begin;
    };
    for (images_ = 0; images_ < shape.n; ++images_) {
      equal_top1_ += top1(values, images_) == top1(reference, images_) ? 1 : 0;
    }
  }

  const Options& options_;
  const WeightFile& golden_;
  Table table_;
  std::size_t layers_ = 0;
  std::size_t failed_ = 0;
  std::size_t without_reference_ = 0;
  int images_ = 0;
  int equal_top1_ = 0;
  bool logits_ = false;
};

// The golden file's own input as a batch.
Result<Batch> golden_input(const WeightFile& golden) {
  const std::string name = "'" + golden.name() + "'";
  const TensorEntry* entry = golden.find("input");
  if (entry == nullptr) {
    return Status(Code::kInvalidArgument, name +
                                              " has no tensor 'input'; name inputs, or a golden "
                                              "file of weights/export.py --golden");
  }
  const std::vector<std::int64_t>& shape = entry->shape;
  if (shape.size() != 4 || shape[0] < 1 || shape[0] > kMaxBatch || shape[1] != 3 || shape[2] < 1 ||
      shape[2] > kMaxSide || shape[3] < 1 || shape[3] > kMaxSide) {
    return Status(Code::kInvalidArgument, "tensor 'input' of " + name + " is " +
                                              shape_string(shape) + "; expected [N, 3, H, W]");
  }
  Batch batch;
  batch.normalised = true;
  batch.shape = {static_cast<int>(shape[0]), static_cast<int>(shape[2]), static_cast<int>(shape[3]),
                 3};
  batch.values.resize(static_cast<std::size_t>(entry->elements()));
  XC_RETURN_IF_ERROR(as_usage_failure(golden.read(*entry, batch.values)));
  return batch;
}

Result<Batch> input_batch(const Options& options, const Network& network,
                          const WeightFile& golden) {
  if (!options.has_inputs()) {
    XC_RETURN_IF_ERROR(check_targets(options, {}));
    return golden_input(golden);
  }
  const Result<PictureSource> source = open_inputs(options, network.preprocess());
  XC_RETURN_IF_ERROR(source.status());
  return gather(*source);
}

Status run_comparison(const Options& options, std::string& text, bool& passed) {
  Result<Network> network = Network::load(options);
  XC_RETURN_IF_ERROR(network.status());
  const Result<std::shared_ptr<const WeightFile>> golden =
      WeightFile::open(options.compare, "golden file");
  XC_RETURN_IF_ERROR(as_usage_failure(golden.status()));
  const Result<Batch> batch = input_batch(options, *network, **golden);
  XC_RETURN_IF_ERROR(batch.status());
  Result<Session*> session = network->session(batch->shape.n, batch->shape.h, batch->shape.w);
  XC_RETURN_IF_ERROR(
      name_array(session.status(), options.has_inputs() ? options.raw_input : options.compare));
  say_place(options, network->info().arch, (*session)->info());

  Comparison comparison(options, **golden);
  LayerDump dump(options.dump_layers);
  if (!options.dump_layers.empty()) {
    XC_RETURN_IF_ERROR(dump.prepare());
  }
  (*session)->set_layer_callback([&](const LayerOutput& output) {
    if (!options.dump_layers.empty()) {
      XC_RETURN_IF_ERROR(dump.write(output));
    }
    return comparison.layer(output);
  });
  std::vector<float> logits;
  XC_RETURN_IF_ERROR(run_batch(**session, *batch, logits));
  const SessionInfo& info = (*session)->info();
  const bool two_classes = info.layers.back().name.ends_with(".two_classes");
  XC_RETURN_IF_ERROR(comparison.logits(logits, info.logits, two_classes));
  if (comparison.empty()) {
    return {Code::kInvalidArgument, "nothing to compare: '" + options.compare +
                                        "' has neither 'logits' nor a layer of this network; "
                                        "make one with weights/export.py --golden"};
  }
  text = comparison.text();
  passed = comparison.passed();
  return {};
}

}  // namespace

int compare(const Options& options) {
  std::string text;
  bool passed = false;
  const int status = print_result(run_comparison(options, text, passed), text);
  return status == 0 && !passed ? kExitTolerance : status;
}

}  // namespace xception::cli
