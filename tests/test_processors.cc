// How many threads a session of the CPU takes.
#include "engine/processors.h"

#include <sched.h>

#include <string>
#include <thread>

#include "model_fixture.h"
#include "session_fixture.h"
#include "testing.h"

namespace xception {

TEST_CASE("a quota of a control group pays for as many processors, rounded up") {
  CHECK(processors_of_quota("200000 100000\n") == 2);
  CHECK(processors_of_quota("150000 100000") == 2);
  CHECK(processors_of_quota("100001 100000") == 2);
  CHECK(processors_of_quota("1000 100000") == 1);
  CHECK(processors_of_quota("50000 10000") == 5);
  CHECK(processors_of_quota("9223372036854775807 1") == 2147483647);
  for (const char* none : {"max 100000\n", "max", "", "100000", "100000 ", "100000 0", "0 100000",
                           "-1 100000", "100000\t100000", "a b"}) {
    CAPTURE(none);
    CHECK_FALSE(processors_of_quota(none));
  }
}

TEST_CASE("a session takes no more threads than its thread has processors") {
  XC_RANDOM(random);
  const std::string bytes = seed_fixture(random).bytes();
  const auto model = load(bytes);
  REQUIRE(usable_processors() >= 1);
  int threads = 0;
  int usable = 0;
  std::thread([&] {  // its affinity goes with it
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(::sched_getcpu(), &one);
    if (::sched_setaffinity(0, sizeof(one), &one) == 0) {
      usable = usable_processors();
      const Result<Session> session = Session::create(model, {.device = "cpu"});
      threads = session.ok() ? session->info().threads : -1;
    }
  })
      .join();
  CHECK(usable == 1);
  CHECK(threads == 1);
}

}  // namespace xception
