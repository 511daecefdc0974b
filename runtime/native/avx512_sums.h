// How a block of sums ends, for the products of the AVX-512 family. Included where its processor is selected.

#pragma once

#include <immintrin.h>

#include "kernels.h"

namespace sta {
namespace {

// The columns of sixteen that there are.
inline __mmask16 columns_of(const Product& product, int column) {
    const int count = product.columns - column;
    return static_cast<__mmask16>(count >= 16 ? 0xFFFF : count > 0 ? (1u << count) - 1 : 0);
}

// What becomes of the sums of sixteen columns of a row, where they do not replace what is there; returns those of which
// the result does not fit int32.
inline __mmask16 add_sixteen(bool adds, std::uint8_t* acc, __mmask16 mask, __m512i sums) {
    const __m512i before = _mm512_maskz_loadu_epi32(mask, acc);
    const __m512i after = adds ? _mm512_add_epi32(before, sums) : _mm512_sub_epi32(before, sums);
    _mm512_mask_storeu_epi32(acc, mask, after);
    // The sign of a sum out of range differs from those of both terms.
    const __m512i wrong = _mm512_and_si512(_mm512_xor_si512(after, before), _mm512_xor_si512(after, sums));
    return _mm512_movepi32_mask(wrong) & mask;
}

// What becomes of the sums of a block; returns those of which the result does not fit int32. All that a store might
// change, as far as the compiler knows, is read before.
template <int rows, int vectors>
inline __mmask16 finish(const Product& product, int row, int column, const __m512i (&sums)[rows][vectors]) {
    const std::int64_t stride = product.acc_stride;
    std::uint8_t* acc = product.acc + row * stride + 4 * static_cast<std::int64_t>(column);
    const Result result = product.result;
    __mmask16 masks[vectors];
#pragma GCC unroll 4
    for (int j = 0; j < vectors; ++j) masks[j] = columns_of(product, column + 16 * j);
    __mmask16 wrong = 0;
    if (result == Result::replace) {
#pragma GCC unroll 16
        for (int i = 0; i < rows; ++i, acc += stride) {
#pragma GCC unroll 4
            for (int j = 0; j < vectors; ++j) _mm512_mask_storeu_epi32(acc + 64 * j, masks[j], sums[i][j]);
        }
        return wrong;
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i, acc += stride) {
#pragma GCC unroll 4
        for (int j = 0; j < vectors; ++j) wrong |= add_sixteen(result == Result::add, acc + 64 * j, masks[j], sums[i][j]);
    }
    return wrong;
}

}  // namespace
}  // namespace sta
