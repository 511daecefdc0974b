// How a block of sums ends, for the products of the AVX-512 family. Included where its processor is selected.

#pragma once

#include <immintrin.h>

#include "kernels.h"

namespace sta {
namespace {

// What becomes of the sums of sixteen columns of a row; returns those of which the result does not fit int32.
inline __mmask16 finish_sixteen(const Product& product, int row, int column, __m512i sums) {
    const int count = product.columns - column;
    const auto mask = static_cast<__mmask16>(count >= 16 ? 0xFFFF : count > 0 ? (1u << count) - 1 : 0);
    std::uint8_t* acc = product.acc + row * product.acc_stride + 4 * static_cast<std::int64_t>(column);
    if (product.result == Result::replace) {
        _mm512_mask_storeu_epi32(acc, mask, sums);
        return 0;
    }
    const __m512i before = _mm512_maskz_loadu_epi32(mask, acc);
    const bool adds = product.result == Result::add;
    const __m512i after = adds ? _mm512_add_epi32(before, sums) : _mm512_sub_epi32(before, sums);
    _mm512_mask_storeu_epi32(acc, mask, after);
    // The sign of a sum out of range differs from those of both terms.
    const __m512i wrong = _mm512_and_si512(_mm512_xor_si512(after, before), _mm512_xor_si512(after, sums));
    return _mm512_movepi32_mask(wrong) & mask;
}

}  // namespace
}  // namespace sta
