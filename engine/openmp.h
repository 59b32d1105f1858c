// The OpenMP runtime that oneDNN runs on, looked up in the process: which one that is was decided
// where oneDNN was built, and linking another would set the threads of the wrong one, and keep two
// sets of them.
#pragma once

#include <cstdint>

namespace xception {

// Functions of the runtime; all null where oneDNN was built without OpenMP.
struct OpenMp {
  int (*get_max_threads)() = nullptr;
  void (*set_num_threads)(int) = nullptr;
  int (*get_num_threads)() = nullptr;
  int (*get_thread_num)() = nullptr;
  // Runs body(data) on every thread of a team. What gcc makes of `omp parallel`; Intel's and LLVM's
  // runtimes have it too.
  void (*run_team)(void (*body)(void*), void* data, unsigned threads, unsigned flags) = nullptr;

  static const OpenMp& find();
  bool present() const { return get_max_threads != nullptr; }
};

// Sets the number of threads for the calling thread, and puts it back.
class ThreadScope {
 public:
  explicit ThreadScope(int threads);
  ~ThreadScope();
  ThreadScope(const ThreadScope&) = delete;
  ThreadScope& operator=(const ThreadScope&) = delete;

 private:
  int before_ = 0;
};

// Of the calling thread's scope; 1 without OpenMP.
inline int scope_threads() {
  const OpenMp& omp = OpenMp::find();
  return omp.present() ? omp.get_max_threads() : 1;
}

// body(begin, end, thread) over [0, count) in as many pieces as the scope has threads, or fewer, at
// the same time, each on a thread of its own: they are numbered from 0. `body` must not throw.
template <class Body>
void parallel_pieces(int count, const Body& body) {
  struct Job {
    const Body& body;
    int count;
  } job = {body, count};
  if (scope_threads() == 1) {
    body(0, count, 0);
    return;
  }
  OpenMp::find().run_team(
      [](void* data) {
        const Job& work = *static_cast<Job*>(data);
        const OpenMp& team = OpenMp::find();
        const auto piece = [&](std::int64_t i) {
          return static_cast<int>(i * work.count / team.get_num_threads());
        };
        const int i = team.get_thread_num();
        work.body(piece(i), piece(i + 1), i);
      },
      &job, 0, 0);
}

// The same where it does not matter which thread it is: body(begin, end).
template <class Body>
void parallel_for(int count, const Body& body) {
  parallel_pieces(count, [&](int begin, int end, int /*thread*/) { body(begin, end); });
}

}  // namespace xception
