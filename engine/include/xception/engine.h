// The engine: a Model is a weight file understood, a Session is a model ready to run one shape.
//
//   auto model = Model::load("xception.safetensors");
//   auto session = Session::create(*model, {.batch = 8});
//   session->run(images, logits);
//
// Failures are values. The library prints nothing, exits nowhere and keeps no mutable globals, but
// for a lock around a fault of oneDNN's. What OpenMP below it does where it can start no thread is
// told at SessionOptions::threads; and where memory runs out inside oneDNN, that may end the
// process (an exception of its cannot leave a parallel region): leave room under a limit of memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "xception/preprocess.h"
#include "xception/status.h"
#include "xception/tensor.h"

struct CUstream_st;

#pragma GCC visibility push(default)  // what programs see of the shared library

namespace xception {

struct ModelOptions {
  // Name of the network ("seed", "seed_depthwise", "xception"); empty: what the file says of
  // itself.
  std::string arch;
  // Check the file's SHA-256 whatever its size, and refuse a file that has none. Without it, those
  // under 64 MiB that have one are checked.
  bool verify = false;
};

struct ModelInfo {
  std::string file;  // path, or "(memory)"
  std::string arch;
  bool has_head = true;             // without one the network ends in features, not logits
  int classes = 0;                  // length of a row of logits, or of features
  std::vector<std::string> labels;  // one a class, or empty
  Preprocess preprocess;
  std::int64_t parameters = 0;  // elements of all tensors but batch-norm statistics
  int min_side = 0;             // smallest height and width, in pixels, that the network accepts
  int max_side = 0;             // largest

  bool takes(int side) const { return side >= min_side && side <= max_side; }
};

// Immutable, and shared by any number of sessions on any threads.
class Model {
 public:
  // Reads the header of a safetensors file, finds out which network it is and checks every tensor's
  // name and shape. Weights are read when a session packs them; the file stays open as long as the
  // model lives. Where the file does not say which network it is, config.json beside it is read, as
  // timm publishes it. Fails with kNotFound, kIo, kBadModel, kInvalidArgument (unknown
  // options.arch) or kOutOfMemory.
  static Result<std::shared_ptr<const Model>> load(const std::string& path,
                                                   const ModelOptions& options = {});
  // The same from memory, which must stay valid and unchanged for the life of the model; no
  // config.json is read.
  static Result<std::shared_ptr<const Model>> load(std::span<const std::byte> bytes,
                                                   const ModelOptions& options = {});
  // The same, and the model keeps them.
  static Result<std::shared_ptr<const Model>> load(std::vector<std::byte>&& bytes,
                                                   const ModelOptions& options = {});

  const ModelInfo& info() const;

  ~Model();
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  struct Impl;
  const Impl& impl() const { return *impl_; }
  explicit Model(std::unique_ptr<const Impl> impl);

 private:
  std::unique_ptr<const Impl> impl_;
};

// Names of the networks that the engine can build.
std::vector<std::string> known_networks();

// A device as SessionOptions::device names it.
struct DeviceInfo {
  std::string name;         // "cpu", "cuda:0"
  std::string description;  // for people: what it is and how large
  bool usable = true;       // false: a GPU that this build holds no code for
};

struct DeviceList {
  std::vector<DeviceInfo> devices;
  std::string no_cuda;  // why no GPU is among them; empty where one is
};

// The devices of this machine, the slow "reference" among them, of which "auto" takes the first
// usable GPU, else the CPU. Asks the CUDA driver, where the build has CUDA.
DeviceList list_devices();

enum class Precision { kFp32, kBf16, kFp16, kTf32 };

// "fp32", "bf16", "fp16", "tf32".
const char* precision_name(Precision precision);

// Pictures in a batch: blocks in the second and third dimension of a GPU's grid.
inline constexpr int kMaxBatch = 65535;

struct SessionOptions {
  // "cpu"; "cuda" or "cuda:N"; "auto": CUDA where build and machine have it, else the CPU;
  // "reference": double-precision loops, slow, for checking; "cudnn", "cudnn:N": CUDA with cuDNN's
  // convolutions in the place of ours, to compare with. Every call makes the GPU its thread's, and
  // puts back the one that was: cuda:0 where the thread never chose any. From CUDA 12 on that opens
  // a context there, which takes memory of that GPU too; CUDA_VISIBLE_DEVICES keeps a process to
  // the GPUs that it is to use.
  std::string device = "auto";
  Precision precision = Precision::kFp32;
  int batch = 1;   // to kMaxBatch
  int height = 0;  // 0: the model's preprocess.size
  int width = 0;
  // Of the CPU backend. 0: as many as OpenMP would take, but no more than the processors that the
  // calling thread may use and that a quota of its control group (version 2) pays for. Each thread
  // that runs sessions has as many of its own, which OpenMP starts in `create` or in its first run,
  // and keeps. Where the system refuses it one (ulimit -u, -v, a limit of pids), OpenMP ends the
  // process. A child of fork() has none of its parent's: where that has run sessions with more than
  // one, run the child's with one, or start another program.
  int threads = 0;
  // Off: every module of the PyTorch network stays a step of its own. In bf16 what goes from one to
  // the next is rounded then, sums too, and logits are less exact.
  bool fuse = true;
  // Of a CUDA device: the steps are recorded once and a run starts them all with one call.
  bool cuda_graph = true;
  // Of a CUDA device: how `run` and `collect` wait for the result. By default the thread sleeps
  // until the device wakes it, which leaves its core to others, be it the sessions beside it or the
  // threads that decode. Spinning notices the result sooner and keeps a core busy for each session:
  // for one that has the machine for itself and counts microseconds.
  bool spin_wait = false;
};

// One step of the plan.
struct LayerInfo {
  std::string name;            // the PyTorch module whose output this step computes
  std::string operation;       // "conv3x3 s2 +relu"
  std::string implementation;  // what the backend chose: "jit_1x1:avx2"
  std::vector<Shape> inputs;   // the main one first, then what is added
  Shape output;
  std::int64_t macs = 0;            // multiply-adds
  std::size_t parameter_bytes = 0;  // packed; 0 where an earlier step holds the same weights
  std::size_t input_bytes = 0;      // of all inputs
  std::size_t output_bytes = 0;
  std::size_t arena_offset = 0;  // of the output
};

// What a device could do at most. Zeros: it does not say, as the CPU.
struct DevicePeak {
  double flops_per_s = 0;  // in the session's precision, at the highest clock
  double bytes_per_s = 0;  // to and from its memory
};

struct SessionInfo {
  std::string device;              // "cpu", "cuda:0"; never "auto" or "cuda"
  std::string device_description;  // of a GPU: its name, architecture and size
  DevicePeak peak;
  Precision precision = Precision::kFp32;
  Shape input;
  Shape logits;                     // {batch, 1, 1, classes}
  int threads = 0;                  // of the CPU backend; 0 on a GPU
  int runs_in_flight = 1;           // that may be submitted before the first is collected
  std::size_t arena_bytes = 0;      // all activations and workspaces
  std::size_t parameter_bytes = 0;  // packed weights, shared by the sessions of a model
  std::vector<LayerInfo> layers;    // in the order they run
};

// A layer's output, copied for the callback: `values`, float32 NHWC, are the next layer's as soon
// as it returns.
struct LayerOutput {
  const LayerInfo* layer = nullptr;
  std::span<const float> values;
};
// It is kept as it is from run to run. What it throws comes out of the call that made the run, but
// for std::bad_alloc, which becomes kOutOfMemory. It may set another callback. It may not run the
// session or profile it, which fails with kInvalidArgument, nor move or destroy it.
using LayerCallback = std::function<Status(const LayerOutput&)>;

// Seconds a step took, in the order of SessionInfo::layers, one row a run.
using Profile = std::vector<std::vector<double>>;

// Belongs to one thread at a time. Everything is allocated in create; run allocates nothing but
// what oneDNN does inside its primitives, and the copies for a layer callback. On the CPU the pages
// of the arena are the system's to find in the first run: under a limit of memory, count
// info().arena_bytes. Where a run has been submitted and not collected, the destructor waits for
// it. One that was moved from may be destroyed or assigned to, no more.
class Session {
 public:
  // Plans, allocates and packs. Fails with kInvalidArgument (a size that the network does not
  // take), kUnsupported or kDevice (precision or device not to be had here), kOutOfMemory, and with
  // kIo or kBadModel where the weight file turns out damaged or changed.
  static Result<Session> create(std::shared_ptr<const Model> model,
                                const SessionOptions& options = {});

  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;
  ~Session();

  const SessionInfo& info() const;

  // Images, already normalised, in host memory and either layout, to logits [batch][classes].
  // Shapes must be info().input and info().logits. Blocks until done. Not while a run is to be
  // collected. A picture whose values leave the range of the precision gets logits that are NaN or
  // infinite; others of its batch do not notice. The CPU takes values above 1e12 for that
  // too, and smaller ones where a layer multiplies them by more than 1e25.
  Status run(TensorView<const float> images, TensorView<float> logits);
  // 8-bit RGB, NHWC, normalised with mean and std of the model (or of set_normalisation).
  Status run(TensorView<const std::uint8_t> images, TensorView<float> logits);

  // A run in two halves, so that pictures may be on their way while those before them are computed:
  // `submit` takes the images, which may go afterwards, `collect` waits for the logits of the run
  // that was submitted first; where runs_in_flight is 1, as on the CPU, it computes them. At most
  // info().runs_in_flight may be between the two. A run that fails in `collect` is over; logits of
  // a wrong shape leave it to be collected.
  Status submit(TensorView<const float> images);
  Status submit(TensorView<const std::uint8_t> images);
  Status collect(TensorView<float> logits);

  // A run of a CUDA device on pictures that are there already, to logits that stay there: `images`
  // and `logits` are dense in memory of info().device (cudaMalloc, cudaMallocAsync or managed),
  // images aligned to 4 bytes. Puts the run on `stream`, a cudaStream_t of that device, and returns
  // without waiting: what the stream did before is seen, and what it does afterwards sees the
  // logits. Allocates nothing, but for the nodes of a graph that is captured. Runs of one session
  // share its activations, so what it does on different streams is done in the order of the calls,
  // and only the streams wait for that; the session's destructor waits for the last. Failures of
  // kernels show when the stream is waited for.
  //
  // The stream may be under capture, into a CUDA graph of the caller's: run it once before, so that
  // the driver has loaded every kernel. Replays are the caller's to order: none while another run
  // of the session is under way, and none after it has gone.
  //
  // Not while a run is to be collected, nor with a layer callback. Fails with kUnsupported where
  // the device has no streams, kInvalidArgument where a buffer is no memory of it, and kDevice.
  Status enqueue(TensorView<const float> images, TensorView<float> logits, CUstream_st* stream);
  Status enqueue(TensorView<const std::uint8_t> images, TensorView<float> logits,
                 CUstream_st* stream);

  // Mean and std for the 8-bit run, of pixels scaled to 0..1. Fails with kInvalidArgument where
  // they are not finite or std is not above 0.
  Status set_normalisation(const Preprocess& preprocess);

  // Called after every step of a run, in order; an error it returns ends the run. Empty: none.
  void set_layer_callback(LayerCallback callback);

  // Runs `runs` times on the last input that was submitted (before the first, on zeros) and times
  // every step, by the host's clock or, on a GPU, by the clock of the device. Not while a run is to
  // be collected.
  Result<Profile> profile(int runs);

  // Runs the whole network `runs` times on that input and gives the seconds of each run, by the
  // same clock: from the pictures where the first layer reads them to the logits where the last one
  // leaves them, so without what a run copies. No layer callback is called. Not while a run is to
  // be collected.
  Result<std::vector<double>> time_network(int runs);

  // Runs one of info().layers `runs` times, back to back, and gives the seconds of them all, by the
  // same clock. It computes on whatever stands where it reads, which need not be what a run has
  // there, and what it adds in place it adds again: the time is meant, not the values. The next run
  // has its own again. Not while a run is to be collected.
  Result<double> time_layer(std::size_t layer, int runs);

 private:
  struct [[gnu::visibility("hidden")]] Impl;
  explicit Session(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Probabilities of each row of logits, computed in double; of one that has a NaN or +infinity, or
// nothing but -infinity, all are NaN. In place is allowed. Allocates nothing. Fails with
// kInvalidArgument where the shapes differ or there is no memory.
Status softmax(TensorView<const float> logits, TensorView<float> probabilities);

}  // namespace xception

#pragma GCC visibility pop
