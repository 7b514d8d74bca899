// Copies of short rows, and of every second number of them.
#pragma once

#include <algorithm>
#include <cstdint>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace vargfacenet {

#if defined(__AVX512F__)

inline __mmask16 first_of(int64_t count) { return count >= 16 ? 0xffff : (1u << std::max<int64_t>(count, 0)) - 1; }

inline void copy_row(const float* from, float* to, int64_t count) {
  for (int64_t i = 0; i < count; i += 16) {
    const __mmask16 mask = first_of(count - i);
    _mm512_mask_storeu_ps(to + i, mask, _mm512_maskz_loadu_ps(mask, from + i));
  }
}

// even[i] = from[2 * i], odd[i] = from[2 * i + 1]
inline void split_row(const float* from, float* even, float* odd, int64_t count) {
  const __m512i lanes = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const __m512i next = _mm512_add_epi32(lanes, _mm512_set1_epi32(1));
  for (int64_t i = 0; i < count; i += 32) {
    const __m512 low = _mm512_maskz_loadu_ps(first_of(count - i), from + i);
    const __m512 high = _mm512_maskz_loadu_ps(first_of(count - i - 16), from + i + 16);
    const __m512 evens = _mm512_permutex2var_ps(low, lanes, high), odds = _mm512_permutex2var_ps(low, next, high);
    _mm512_mask_storeu_ps(even + i / 2, first_of((count - i + 1) / 2), evens);
    _mm512_mask_storeu_ps(odd + i / 2, first_of((count - i) / 2), odds);
  }
}

inline void join_row(const float* even, const float* odd, float* to, int64_t count) {
  const __m512i lanes = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i upper = _mm512_add_epi32(lanes, _mm512_set1_epi32(8));
  for (int64_t i = 0; i < count; i += 32) {
    const __m512 evens = _mm512_maskz_loadu_ps(first_of((count - i + 1) / 2), even + i / 2);
    const __m512 odds = _mm512_maskz_loadu_ps(first_of((count - i) / 2), odd + i / 2);
    _mm512_mask_storeu_ps(to + i, first_of(count - i), _mm512_permutex2var_ps(evens, lanes, odds));
    _mm512_mask_storeu_ps(to + i + 16, first_of(count - i - 16), _mm512_permutex2var_ps(evens, upper, odds));
  }
}

#else

inline void copy_row(const float* from, float* to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = from[i];
}

inline void split_row(const float* from, float* even, float* odd, int64_t count) {
  for (int64_t i = 0; i < count; ++i) (i % 2 ? odd : even)[i / 2] = from[i];
}

inline void join_row(const float* even, const float* odd, float* to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = (i % 2 ? odd : even)[i / 2];
}

#endif

}  // namespace vargfacenet
