// Builds a graph module by module, taking each module's parameters from the file as it goes.
#pragma once

#include <map>
#include <string>

#include "engine/graph.h"
#include "engine/parameters.h"

namespace xception {

// The first failure sticks: later calls do nothing, and finish() returns it. So the networks read
// as a list of modules.
class GraphBuilder {
 public:
  GraphBuilder(Parameters& parameters, double bn_eps);

  ValueId input() const { return 0; }

  struct Conv {
    int out = 0;
    int size = 1;
    int stride = 1;
    int pad = 0;
    bool bias = false;
    bool depthwise = false;
  };
  // `name` is the module's path; parameters are name + ".weight" and name + ".bias".
  ValueId conv(const std::string& name, ValueId src, const Conv& conv);
  ValueId batch_norm(const std::string& name, ValueId src);
  ValueId relu(const std::string& name, ValueId src);
  // The end of the longer branch is `main`: that is where the sum will be computed.
  ValueId add(const std::string& name, ValueId main, ValueId shortcut);
  ValueId max_pool(const std::string& name, ValueId src, PadMode pad_mode);
  ValueId avg_pool(const std::string& name, ValueId src, int size);
  ValueId global_avg_pool(const std::string& name, ValueId src);
  ValueId linear(const std::string& name, ValueId src);

  struct Head {
    ValueId value = 0;
    int outputs = 0;  // of its last Linear; 0 where there is no head and `value` is the features
  };
  // Linear "fc", or those numbered as in an nn.Sequential of that name, with ReLUs between. One
  // output z is a sigmoid's, and becomes the logits 0 and z of two classes.
  Head head(ValueId features);

  int channels(ValueId value) const { return channels_[static_cast<std::size_t>(value)]; }

  Result<Graph> finish();

 private:
  void fail(const Status& status);
  ValueId two_classes(const std::string& name, ValueId logit);
  std::vector<int> numbered_linears(const std::string& name);
  ValueId append(const std::string& name, Op op, std::vector<ValueId> inputs, int channels);

  Parameters& parameters_;
  double bn_eps_;
  Graph graph_;
  std::vector<int> channels_;         // of every node's output
  std::map<std::string, int> calls_;  // of every module
  // A module that runs several times has its norm read once.
  std::map<std::string, std::shared_ptr<const Affine>> affines_;
  Status status_;
};

}  // namespace xception
