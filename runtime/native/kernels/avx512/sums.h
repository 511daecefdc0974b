// How a block of sums ends, for the products of the AVX-512 family. Included where its processor is selected.

#pragma once

#include "kernels/avx512/vectors.h"

namespace sta::avx512 {
namespace {

// sums += the products of unsigned by signed bytes, four by four. Assembly because GCC keeps sums in more registers than
// there are if it may choose where the result of the intrinsic goes.
inline void add_products(__m512i& sums, __m512i unsigned_bytes, __m512i signed_bytes) {
    asm("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(unsigned_bytes), "v"(signed_bytes));
}

// The columns of sixteen that there are.
inline __mmask16 columns_of(const Product& product, int column) {
    return first_lanes(product.columns - column);
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
}  // namespace sta::avx512
