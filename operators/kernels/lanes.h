// Vectors of the processor that is compiled for, and the tiles of `product.h`, whose sums stay in its registers.
#pragma once

#include <cstdint>
#if defined(__AVX512F__) || defined(__AVX__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace vargfacenet {

#if defined(__AVX512F__)
constexpr int kLanes = 16, kRegisters = 32;
#elif defined(__AVX__)
constexpr int kLanes = 8, kRegisters = 16;
#elif defined(__aarch64__)
constexpr int kLanes = 4, kRegisters = 32;
#else
constexpr int kLanes = 4, kRegisters = 16;
#endif

// A tile of `gather` has kRows x kWide sums; registers are left for kWide vectors of inputs and one of weights. Loads are
// then 11 for 24 multiply-adds, or 7 for 12: below the one load per multiply-add that processors manage.
constexpr int kWide = 3, kRows = kRegisters == 32 ? 8 : 4;
// A tile of `reduce` has kHigh x kTaps sums.
constexpr int kHigh = 4, kTaps = kRows * kWide / kHigh;
constexpr int64_t kSlack = kLanes * kWide;

typedef float Lanes __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));

inline Lanes load(const float* from) { return *reinterpret_cast<const Lanes*>(from); }
inline void store(float* to, Lanes lanes) { *reinterpret_cast<Lanes*>(to) = lanes; }

// Prevents the compiler from loading the same numbers again for each use.
inline Lanes in_register(Lanes lanes) {
#if defined(__AVX512F__)
  __asm__("" : "+v"(lanes));
#elif defined(__AVX__)
  __asm__("" : "+x"(lanes));
#endif
  return lanes;
}

// Adds the sum over the lanes of parts[r][k] to sums[k * kHigh + r]: vectors are added and interleaved four at a time.
inline void add_sums(const Lanes parts[kHigh][kTaps], float* sums) {
#if defined(__AVX512F__)
  static_assert(kTaps % 2 == 0, "two taps at a time");
#pragma GCC unroll 8
  for (int k = 0; k < kTaps; k += 2) {
    __m512 t[kHigh];
#pragma GCC unroll 4
    for (int r = 0; r < kHigh; ++r) {
      const __m512 a = reinterpret_cast<__m512>(parts[r][k]), b = reinterpret_cast<__m512>(parts[r][k + 1]);
      t[r] = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
    }
    const __m512 u = _mm512_add_ps(_mm512_unpacklo_ps(t[0], t[1]), _mm512_unpackhi_ps(t[0], t[1]));
    const __m512 v = _mm512_add_ps(_mm512_unpacklo_ps(t[2], t[3]), _mm512_unpackhi_ps(t[2], t[3]));
    const __m512 s = _mm512_add_ps(_mm512_shuffle_ps(u, v, 0x44), _mm512_shuffle_ps(u, v, 0xee));
    const __m512 both = _mm512_add_ps(_mm512_shuffle_f32x4(s, s, 0x88), _mm512_shuffle_f32x4(s, s, 0xdd));
    float* to = sums + k * kHigh;
    _mm256_storeu_ps(to, _mm256_add_ps(_mm256_loadu_ps(to), _mm512_castps512_ps256(both)));
  }
#elif defined(__AVX__)
#pragma GCC unroll 8
  for (int k = 0; k < kTaps; ++k) {
    __m256 t[kHigh];
#pragma GCC unroll 4
    for (int r = 0; r < kHigh; ++r) t[r] = reinterpret_cast<__m256>(parts[r][k]);
    const __m256 u = _mm256_add_ps(_mm256_unpacklo_ps(t[0], t[1]), _mm256_unpackhi_ps(t[0], t[1]));
    const __m256 v = _mm256_add_ps(_mm256_unpacklo_ps(t[2], t[3]), _mm256_unpackhi_ps(t[2], t[3]));
    const __m256 s = _mm256_add_ps(_mm256_shuffle_ps(u, v, 0x44), _mm256_shuffle_ps(u, v, 0xee));
    const __m128 sum = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    float* to = sums + k * kHigh;
    _mm_storeu_ps(to, _mm_add_ps(_mm_loadu_ps(to), sum));
  }
#elif defined(__aarch64__)
#pragma GCC unroll 8
  for (int k = 0; k < kTaps; ++k) {
    float32x4_t t[kHigh];
#pragma GCC unroll 4
    for (int r = 0; r < kHigh; ++r) t[r] = reinterpret_cast<float32x4_t>(parts[r][k]);
    const float32x4_t sum = vpaddq_f32(vpaddq_f32(t[0], t[1]), vpaddq_f32(t[2], t[3]));
    vst1q_f32(sums + k * kHigh, vaddq_f32(vld1q_f32(sums + k * kHigh), sum));
  }
#else
  for (int k = 0; k < kTaps; ++k) {
    for (int r = 0; r < kHigh; ++r) {
      for (int i = 0; i < kLanes; ++i) sums[k * kHigh + r] += parts[r][k][i];
    }
  }
#endif
}

}  // namespace vargfacenet
