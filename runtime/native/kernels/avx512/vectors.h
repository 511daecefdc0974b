// Vectors of sixteen elements, and how they are rescaled and stored. Included where its processor is selected.

#pragma once

#include <immintrin.h>

#include "kernels/kernels.h"

namespace sta::avx512 {
namespace {

constexpr int lanes = 16;

inline __mmask16 first_lanes(int count) {
    return static_cast<__mmask16>(count >= lanes ? 0xFFFF : count > 0 ? (1u << count) - 1 : 0);
}

// A rescaling of 16 int32 values, with one multiplier and shift for each: even and odd lanes in 64 bits.
struct VectorScale {
    __m512i low, high;  // what a value is saturated to
    __m512i even_multiplier, odd_multiplier;
    __m512i even_half, odd_half;
    __m512i even_shift, odd_shift;
};

inline VectorScale vector_scale(__m512i multipliers, __m512i shifts) {
    const __m512i one = _mm512_set1_epi64(1), low_word = _mm512_set1_epi64(0xFFFFFFFF);
    // A shift above 32 saturates nothing.
    const __m512i bits = _mm512_sub_epi32(_mm512_min_epi32(shifts, _mm512_set1_epi32(32)), _mm512_set1_epi32(1));
    VectorScale scale;
    scale.low = _mm512_sllv_epi32(_mm512_set1_epi32(-1), bits);
    scale.high = _mm512_xor_si512(scale.low, _mm512_set1_epi32(-1));
    scale.even_multiplier = multipliers;
    scale.odd_multiplier = _mm512_srli_epi64(multipliers, 32);
    scale.even_shift = _mm512_and_si512(shifts, low_word);
    scale.odd_shift = _mm512_srli_epi64(shifts, 32);
    scale.even_half = _mm512_sllv_epi64(one, _mm512_sub_epi64(scale.even_shift, one));
    scale.odd_half = _mm512_sllv_epi64(one, _mm512_sub_epi64(scale.odd_shift, one));
    return scale;
}

inline VectorScale vector_scale(Scale scale) {
    return vector_scale(_mm512_set1_epi32(scale.multiplier), _mm512_set1_epi32(scale.shift));
}

// The results fit int32: their magnitude is at most 2^30.
inline __m512i rescaled(__m512i values, const VectorScale& scale) {
    values = _mm512_min_epi32(_mm512_max_epi32(values, scale.low), scale.high);
    __m512i even = _mm512_mul_epi32(values, scale.even_multiplier);
    __m512i odd = _mm512_mul_epi32(_mm512_srli_epi64(values, 32), scale.odd_multiplier);
    even = _mm512_srav_epi64(_mm512_add_epi64(even, scale.even_half), scale.even_shift);
    odd = _mm512_srav_epi64(_mm512_add_epi64(odd, scale.odd_half), scale.odd_shift);
    return _mm512_mask_mov_epi32(even, 0xAAAA, _mm512_slli_epi64(odd, 32));
}

inline __m512i load_elements(const std::uint8_t* row, Element type, int column, __mmask16 mask) {
    switch (type) {
        case Element::s8: return _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(mask, row + column));
        case Element::u8: return _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, row + column));
        case Element::s16: return _mm512_cvtepi16_epi32(_mm256_maskz_loadu_epi16(mask, row + 2 * column));
        default: return _mm512_maskz_loadu_epi32(mask, row + 4 * column);
    }
}

inline void store_elements(std::uint8_t* row, Element type, int column, __mmask16 mask, __m512i values) {
    const __m512i zero = _mm512_setzero_si512();
    switch (type) {
        case Element::s8: _mm512_mask_cvtsepi32_storeu_epi8(row + column, mask, values); return;
        case Element::u8:
            _mm512_mask_cvtusepi32_storeu_epi8(row + column, mask, _mm512_max_epi32(values, zero));
            return;
        case Element::s16: _mm512_mask_cvtsepi32_storeu_epi16(row + 2 * column, mask, values); return;
        default: _mm512_mask_storeu_epi32(row + 4 * column, mask, values);
    }
}

}  // namespace
}  // namespace sta::avx512
