#include "bench_roofline.h"

#include <unistd.h>

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#include "stopwatch.h"

#ifdef __x86_64__
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace xception::bench {
namespace {

// Rounds are short, for others use the machine too: the best is one that they left alone.
constexpr double kRoundSeconds = 1e-3;
constexpr int kRounds = 100;

// Multiply-adds in registers, `rounds` of each of kChains that do not wait for each other, which
// begin differently: else a compiler would compute one of them. Returns how many operations that
// was. A function for each instruction set, since what has another does not become part of it.
using Multiply = double (*)(int rounds);
constexpr int kChains = 12;

#ifdef __x86_64__

[[gnu::target("avx512f")]] double multiply_avx512(int rounds) {
  const __m512 factor = _mm512_set1_ps(0.5F);
  __m512 sums[kChains];
  for (int i = 0; i < kChains; ++i) {
    sums[i] = _mm512_set1_ps(static_cast<float>(i));
  }
  for (int round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (__m512& sum : sums) {
      sum = _mm512_fmadd_ps(sum, factor, factor);
    }
  }
  for (const __m512& sum : sums) {
    asm volatile("" ::"v"(sum));
  }
  return 2.0 * 16 * kChains * rounds;
}

[[gnu::target("avx512f,avx512bf16")]] double multiply_bf16(int rounds) {
  const __m512bh factor = {};
  __m512 sums[kChains];
  for (int i = 0; i < kChains; ++i) {
    sums[i] = _mm512_set1_ps(static_cast<float>(i));
  }
  for (int round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (__m512& sum : sums) {
      sum = _mm512_dpbf16_ps(sum, factor, factor);
    }
  }
  for (const __m512& sum : sums) {
    asm volatile("" ::"v"(sum));
  }
  return 2.0 * 32 * kChains * rounds;
}

[[gnu::target("avx2,fma")]] double multiply_avx2(int rounds) {
  const __m256 factor = _mm256_set1_ps(0.5F);
  __m256 sums[kChains];
  for (int i = 0; i < kChains; ++i) {
    sums[i] = _mm256_set1_ps(static_cast<float>(i));
  }
  for (int round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (__m256& sum : sums) {
      sum = _mm256_fmadd_ps(sum, factor, factor);
    }
  }
  for (const __m256& sum : sums) {
    asm volatile("" ::"x"(sum));
  }
  return 2.0 * 8 * kChains * rounds;
}

#endif

// What every processor has. The compiler makes one instruction of it where there is one.
double multiply_baseline(int rounds) {
  using Four = float __attribute__((vector_size(16)));
  const Four factor = {0.5F, 0.5F, 0.5F, 0.5F};
  Four sums[kChains];
  for (int i = 0; i < kChains; ++i) {
    sums[i] = factor * static_cast<float>(i);
  }
  for (int round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (Four& sum : sums) {
      sum = sum * factor + factor;
    }
  }
  for (const Four& sum : sums) {
#ifdef __x86_64__
    asm volatile("" ::"x"(sum));
#else
    asm volatile("" ::"w"(sum));
#endif
  }
  return 2.0 * 4 * kChains * rounds;
}

// Null where the precision has no loop here.
Multiply choose(Precision precision) {
#ifdef __x86_64__
  if (precision == Precision::kBf16) {
    constexpr unsigned kAmxBf16 = 1U << 22;    // leaf 7, EDX
    constexpr unsigned kAvx512Bf16 = 1U << 5;  // leaf 7, subleaf 1, EAX
    unsigned a = 0;
    unsigned b = 0;
    unsigned c = 0;
    unsigned d = 0;
    const bool has_tiles = __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d & kAmxBf16) != 0;
    const bool has_bf16 = __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & kAvx512Bf16) != 0;
    return has_bf16 && !has_tiles && __builtin_cpu_supports("avx512f") ? multiply_bf16 : nullptr;
  }
  if (precision == Precision::kFp32 && __builtin_cpu_supports("avx512f")) {
    return multiply_avx512;
  }
  if (precision == Precision::kFp32 && __builtin_cpu_supports("avx2") &&
      __builtin_cpu_supports("fma")) {
    return multiply_avx2;
  }
#endif
  return precision == Precision::kFp32 ? multiply_baseline : nullptr;
}

// How much all threads do in a second, in the best round, each of which does `work(thread)`, which
// returns how much that was, again and again. All begin together, and a round lasts until the last
// of them ends. Throws std::system_error where a thread cannot be had.
template <class Work>
double best_rate(int threads, const Work& work) {
  struct Part {
    Clock::time_point begin;
    Clock::time_point end;
    double done = 0;
  };
  std::vector<Part> parts(static_cast<std::size_t>(threads));
  std::barrier together(threads);
  double best = 0;
  const auto measure = [&](std::size_t thread) {
    for (int round = 0; round < kRounds; ++round) {
      Part& part = parts[thread];
      part = {};
      together.arrive_and_wait();
      part.begin = Clock::now();
      do {
        part.done += work(thread);
        part.end = Clock::now();
      } while (std::chrono::duration<double>(part.end - part.begin).count() < kRoundSeconds);
      together.arrive_and_wait();
      if (thread == 0) {
        Part all = parts.front();
        for (std::size_t i = 1; i < parts.size(); ++i) {
          all = {std::min(all.begin, parts[i].begin), std::max(all.end, parts[i].end),
                 all.done + parts[i].done};
        }
        best =
            std::max(best, all.done / std::chrono::duration<double>(all.end - all.begin).count());
      }
      together.arrive_and_wait();
    }
  };
  std::vector<std::jthread> others;
  try {
    for (std::size_t thread = 1; thread < parts.size(); ++thread) {
      others.emplace_back([&measure, thread] { measure(thread); });
    }
  } catch (const std::system_error&) {
    for (std::size_t missing = others.size(); missing < parts.size(); ++missing) {
      together.arrive_and_drop();  // the others come to an end without those
    }
    throw;
  }
  measure(0);
  return best;
}

// Buffers that are twice as large as the last cache, in whole pieces, each thread's its own.
double measure_copies(int threads) {
  constexpr std::size_t kPiece = std::size_t{1} << 18;
  constexpr std::size_t kLeast = std::size_t{1} << 28;
  constexpr std::size_t kMost = std::size_t{1} << 30;
  std::size_t cache = 0;
#ifdef _SC_LEVEL3_CACHE_SIZE
  cache = static_cast<std::size_t>(std::max(sysconf(_SC_LEVEL3_CACHE_SIZE), 0L));
#endif
  const std::size_t all = std::clamp(2 * cache, kLeast, kMost);
  const std::size_t pieces =
      std::max<std::size_t>(all / 2 / kPiece / static_cast<std::size_t>(threads), 1);
  struct Buffers {
    std::unique_ptr<std::byte[]> src;
    std::unique_ptr<std::byte[]> dst;
    std::size_t next = 0;
  };
  std::vector<Buffers> buffers(static_cast<std::size_t>(threads));
  for (Buffers& mine : buffers) {
    mine.src = std::make_unique_for_overwrite<std::byte[]>(pieces * kPiece);
    mine.dst = std::make_unique_for_overwrite<std::byte[]>(pieces * kPiece);
  }
  return best_rate(threads, [&](std::size_t thread) {
    Buffers& mine = buffers[thread];
    if (mine.next == 0) {  // its pages are found by the thread that uses them
      std::fill_n(mine.src.get(), pieces * kPiece, std::byte{1});
      std::fill_n(mine.dst.get(), pieces * kPiece, std::byte{1});
    }
    const std::size_t at = mine.next++ % pieces * kPiece;
    std::memcpy(mine.dst.get() + at, mine.src.get() + at, kPiece);
    return 2.0 * kPiece;
  });
}

}  // namespace

std::optional<Roofline> find_roofline(const SessionInfo& info) {
  if (info.peak.flops_per_s > 0 && info.peak.bytes_per_s > 0) {
    return Roofline{info.peak, "rated"};
  }
  const Multiply multiply = choose(info.precision);
  if (info.device != "cpu" || multiply == nullptr) {
    return std::nullopt;
  }
  const int threads =
      std::min(info.threads, static_cast<int>(std::max(std::thread::hardware_concurrency(), 1U)));
  try {
    constexpr int kTurns = 1000;
    const double flops = best_rate(threads, [=](std::size_t) { return multiply(kTurns); });
    return Roofline{{flops, measure_copies(threads)}, "measured"};
  } catch (const std::bad_alloc&) {
    return std::nullopt;
  } catch (const std::system_error&) {
    return std::nullopt;
  }
}

double bound_s(const Roofline& roofline, double macs, double bytes) {
  return std::max(2 * macs / roofline.peak.flops_per_s, bytes / roofline.peak.bytes_per_s);
}

}  // namespace xception::bench
