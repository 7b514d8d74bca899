// Copies of short rows, and of every second number of them. No number outside the rows is read or written.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#if defined(__SSE__) || defined(__AVX512F__)
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

template <int count>
inline void copy_block(const float* from, float* to) {
  typedef float Block __attribute__((vector_size(4 * count), aligned(4), may_alias));
  *reinterpret_cast<Block*>(to) = *reinterpret_cast<const Block*>(from);
}

// The last block overlaps the one before it.
inline void copy_row(const float* from, float* to, int64_t count) {
  if (count >= 8) {
    for (int64_t i = 0; i < count - 8; i += 8) copy_block<8>(from + i, to + i);
    copy_block<8>(from + count - 8, to + count - 8);
  } else if (count >= 4) {
    copy_block<4>(from, to);
    copy_block<4>(from + count - 4, to + count - 4);
  } else {
    for (int64_t i = 0; i < count; ++i) to[i] = from[i];
  }
}

// even[i] = from[2 * i], odd[i] = from[2 * i + 1]
inline void split_row(const float* from, float* even, float* odd, int64_t count) {
  int64_t i = 0;
#if defined(__SSE__)
  for (; i + 8 <= count; i += 8) {
    const __m128 low = _mm_loadu_ps(from + i), high = _mm_loadu_ps(from + i + 4);
    _mm_storeu_ps(even + i / 2, _mm_shuffle_ps(low, high, 0x88));
    _mm_storeu_ps(odd + i / 2, _mm_shuffle_ps(low, high, 0xdd));
  }
#endif
  for (; i + 2 <= count; i += 2) {
    even[i / 2] = from[i];
    odd[i / 2] = from[i + 1];
  }
  if (i < count) even[i / 2] = from[i];
}

inline void join_row(const float* even, const float* odd, float* to, int64_t count) {
  int64_t i = 0;
#if defined(__SSE__)
  for (; i + 8 <= count; i += 8) {
    const __m128 evens = _mm_loadu_ps(even + i / 2), odds = _mm_loadu_ps(odd + i / 2);
    _mm_storeu_ps(to + i, _mm_unpacklo_ps(evens, odds));
    _mm_storeu_ps(to + i + 4, _mm_unpackhi_ps(evens, odds));
  }
#endif
  for (; i + 2 <= count; i += 2) {
    to[i] = even[i / 2];
    to[i + 1] = odd[i / 2];
  }
  if (i < count) to[i] = even[i / 2];
}

#endif

template <int64_t count>
void copy_rows_of(const float* from, int64_t from_step, float* to, int64_t to_step, int64_t rows) {
  for (int64_t i = 0; i < rows; ++i) copy_row(from + i * from_step, to + i * to_step, count);
}

// Copies `rows` rows of `count` numbers. Those of the usual images have loops of their own, without a decision per row.
inline void copy_rows(const float* from, int64_t from_step, float* to, int64_t to_step, int64_t rows, int64_t count) {
  if (count == 56) return copy_rows_of<56>(from, from_step, to, to_step, rows);
  if (count == 28) return copy_rows_of<28>(from, from_step, to, to_step, rows);
  if (count == 14) return copy_rows_of<14>(from, from_step, to, to_step, rows);
  if (count == 7) return copy_rows_of<7>(from, from_step, to, to_step, rows);
  for (int64_t i = 0; i < rows; ++i) copy_row(from + i * from_step, to + i * to_step, count);
}

}  // namespace vargfacenet
