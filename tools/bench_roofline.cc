#include "bench_roofline.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <new>
#include <thread>
#include <vector>

#include "stopwatch.h"

#ifdef __x86_64__
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace xception::bench {
namespace {

constexpr double kRoundSeconds = 0.05;
constexpr int kRounds = 3;  // of which the best counts: others may use the machine

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

// How much all threads do in a second, each of which does `work(thread)`, which returns how much
// that was, again and again.
template <class Work>
double best_rate(int threads, const Work& work) {
  double best = 0;
  for (int round = 0; round < kRounds; ++round) {
    std::vector<double> rates(static_cast<std::size_t>(threads));
    std::vector<std::jthread> others;
    const auto measure = [&](std::size_t thread) {
      double done = 0;
      const Clock::time_point start = Clock::now();
      double seconds = 0;
      while (seconds < kRoundSeconds) {
        done += work(thread);
        seconds = seconds_since(start);
      }
      rates[thread] = done / seconds;
    };
    for (std::size_t thread = 1; thread < rates.size(); ++thread) {
      others.emplace_back([&measure, thread] { measure(thread); });
    }
    measure(0);
    others.clear();
    double sum = 0;
    for (const double rate : rates) {
      sum += rate;
    }
    best = std::max(best, sum);
  }
  return best;
}

double measure_copies(int threads) {
  constexpr std::size_t kBytes = std::size_t{1}
                                 << 28;  // read, and as many written: beyond all caches
  constexpr std::size_t kPiece = std::size_t{1} << 20;
  const std::size_t pieces = kBytes / kPiece;
  const std::vector<std::byte> src(kBytes, std::byte{1});
  std::vector<std::byte> dst(kBytes);
  std::vector<std::size_t> next(static_cast<std::size_t>(threads));
  return best_rate(threads, [&](std::size_t thread) {
    // Each thread has every so-many-th piece.
    const std::size_t piece =
        (next[thread]++ * static_cast<std::size_t>(threads) + thread) % pieces;
    std::memcpy(dst.data() + piece * kPiece, src.data() + piece * kPiece, kPiece);
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
  constexpr int kTurns = 10'000;
  const double flops = best_rate(info.threads, [=](std::size_t) { return multiply(kTurns); });
  return Roofline{{flops, measure_copies(info.threads)}, "measured"};
}

double bound_s(const Roofline& roofline, double macs, double bytes) {
  return std::max(2 * macs / roofline.peak.flops_per_s, bytes / roofline.peak.bytes_per_s);
}

}  // namespace xception::bench
