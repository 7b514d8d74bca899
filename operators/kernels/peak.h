// The most that a core computes: vectors multiplied and added in registers, in as many independent chains as hide the
// latency of five cycles in two units.
#pragma once

#include <chrono>

#include "lanes.h"

namespace vargfacenet {

// 10^9 floating-point operations per second of one thread: the best of short bursts.
inline double peak_gflops() {
  constexpr int kChains = 10, kSteps = 20000, kBursts = 200;
  volatile float factor = 0.999f, summand = 0.001f, sink = 0;
  const Lanes x = Lanes{} + factor, y = Lanes{} + summand;
  Lanes sums[kChains] = {};
  double best = 0;
  for (int burst = 0; burst < kBursts; ++burst) {
    const auto begin = std::chrono::steady_clock::now();
    for (int step = 0; step < kSteps; ++step) {
#pragma GCC unroll 16
      for (int chain = 0; chain < kChains; ++chain) sums[chain] = sums[chain] * x + y;
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    const double rate = 2.0 * kLanes * kChains * kSteps / seconds.count() / 1e9;
    if (rate > best) best = rate;
    for (const Lanes& sum : sums) sink = sink + sum[0];
  }
  return best;
}

}  // namespace vargfacenet
