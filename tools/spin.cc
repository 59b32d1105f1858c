#include "spin.h"

#include <unistd.h>

#include <array>
#include <climits>
#include <cstdlib>

namespace xception {

void shorten_openmp_spin(char** argv) {
  constexpr const char* kSpins =
      "20000";  // on a quiet machine no slower than libgomp's own setting
  // Where threads are bound, libgomp has bound this one before main: started again, the program
  // would find that one processor only.
  for (const char* name :
       {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY"}) {
    if (std::getenv(name) != nullptr) {
      return;
    }
  }
  // Where it fails, the program runs on as it is: slower beside others, and not wrong. By its path,
  // since the name that ps shows for a started link would be the link's.
  std::array<char, PATH_MAX> path{};
  if (readlink("/proc/self/exe", path.data(), path.size() - 1) > 0 &&
      setenv("GOMP_SPINCOUNT", kSpins, 1) == 0) {
    execv(path.data(), argv);
  }
}

}  // namespace xception
