#include "engine/openmp.h"

#include <dlfcn.h>

namespace xception {
namespace {

template <class Function>
bool look_up(const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, name));
  return function != nullptr;
}

}  // namespace

const OpenMp& OpenMp::find() {
  static const OpenMp found = [] {
    OpenMp omp;
    const bool all = look_up("omp_get_max_threads", omp.get_max_threads) &&
                     look_up("omp_set_num_threads", omp.set_num_threads) &&
                     look_up("omp_get_num_threads", omp.get_num_threads) &&
                     look_up("omp_get_thread_num", omp.get_thread_num) &&
                     look_up("GOMP_parallel", omp.run_team);
    return all ? omp : OpenMp{};
  }();
  return found;
}

ThreadScope::ThreadScope(int threads) {
  if (const OpenMp& omp = OpenMp::find(); omp.present()) {
    before_ = omp.get_max_threads();
    omp.set_num_threads(threads);
  }
}

ThreadScope::~ThreadScope() {
  if (const OpenMp& omp = OpenMp::find(); omp.present()) {
    omp.set_num_threads(before_);
  }
}

}  // namespace xception
