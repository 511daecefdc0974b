// The vector unit's norm and row statistics, for processors with AVX-512.

#if defined(__x86_64__)

#include "kernels/avx512/family.h"
#include "kernels/target.h"

STA_BEGIN_TARGET(STA_AVX512)

#include "kernels/avx512/vectors.h"
#include "kernels/scalar/norm.h"

namespace sta::avx512 {
namespace {

// Eight columns of a norm, up to the saturation to int16.
inline __m512i normalized(__m512i values, const RowNorm& row, int width, __m512i gamma, __m512i beta, int shift) {
    const __m512i centred =
        _mm512_sub_epi64(_mm512_mul_epi32(values, _mm512_set1_epi64(width)), _mm512_set1_epi64(row.mean));
    const __m512i product = _mm512_mul_epi32(centred, _mm512_set1_epi64(row.root));
    const __m512i half = _mm512_set1_epi64(std::int64_t{1} << (row.shift - 1));
    const __m512i normal = _mm512_sra_epi64(_mm512_add_epi64(product, half), _mm_cvtsi32_si128(row.shift));
    const __m512i scaled = _mm512_add_epi64(_mm512_mullo_epi64(normal, gamma), _mm512_slli_epi64(beta, 20));
    if (shift == 0) return scaled;
    // Without ever forming the sum with a half: the shift may be 63.
    const __m512i halves = _mm512_sra_epi64(scaled, _mm_cvtsi32_si128(shift - 1));
    return _mm512_add_epi64(_mm512_srai_epi64(halves, 1), _mm512_and_si512(halves, _mm512_set1_epi64(1)));
}

inline __m128i normalized_eight(const Norm& norm, const RowNorm& row, __m128i values, int column) {
    const NormParameters& parameters = *norm.parameters;
    const auto widened = [column](const std::vector<std::int32_t>& from) {
        return _mm512_cvtepi32_epi64(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from.data() + column)));
    };
    const __m512i results = normalized(_mm512_cvtepi16_epi64(values), row, norm.columns, widened(parameters.gamma),
                                       widened(parameters.beta), parameters.shift);
    return _mm512_cvtsepi64_epi16(results);
}

}  // namespace

void norm_rows(const Norm& norm, int first, int last) {
    const VectorScale copy_scale = vector_scale(norm.parameters->copy);
    const __m512i zero_point = _mm512_set1_epi32(norm.parameters->copy_zero_point);
    // A zero point this large saturates whatever it is added to, and is served without vectors.
    if (std::abs(std::int64_t{norm.parameters->copy_zero_point}) >= 1 << 29) return scalar::norm_rows(norm, first, last);
    for (int i = first; i < last; ++i) {
        const std::uint8_t* source = norm.source + i * norm.source_stride;
        for (int column = 0; column < norm.columns; column += lanes) {
            const __mmask16 mask = first_lanes(norm.columns - column);
            const __m256i values = _mm256_maskz_loadu_epi16(mask, source + 2 * column);
            const __m128i low = normalized_eight(norm, norm.rows[i], _mm256_castsi256_si128(values), column);
            const __m128i high = normalized_eight(norm, norm.rows[i], _mm256_extracti128_si256(values, 1), column + 8);
            const __m256i result = _mm256_set_m128i(high, low);
            if (norm.destination) {
                _mm256_mask_storeu_epi16(norm.destination + i * norm.destination_stride + 2 * column, mask, result);
            }
            if (!norm.copy) continue;
            const __m512i narrow = rescaled(_mm512_cvtepi16_epi32(result), copy_scale);
            store_elements(norm.copy + i * norm.copy_stride, Element::s8, column, mask,
                           _mm512_add_epi32(narrow, zero_point));
        }
    }
}

void statistics_of_row(const std::uint8_t* row, int columns, std::int64_t& sum, std::int64_t& squares) {
    const __m512i ones = _mm512_set1_epi16(1);
    __m512i sums = _mm512_setzero_si512(), totals = _mm512_setzero_si512();
    for (int column = 0; column < columns; column += 2 * lanes) {
        const int count = columns - column;
        const __mmask32 mask = count >= 2 * lanes ? 0xFFFFFFFF : (1u << count) - 1;
        const __m512i values = _mm512_maskz_loadu_epi16(mask, row + 2 * column);
        sums = _mm512_add_epi32(sums, _mm512_madd_epi16(values, ones));
        // A pair of squares may be 2^31, which fits 32 bits without a sign.
        const __m512i pairs = _mm512_madd_epi16(values, values);
        totals = _mm512_add_epi64(totals, _mm512_cvtepu32_epi64(_mm512_castsi512_si256(pairs)));
        totals = _mm512_add_epi64(totals, _mm512_cvtepu32_epi64(_mm512_extracti64x4_epi64(pairs, 1)));
    }
    sum = _mm512_reduce_add_epi32(sums);
    squares = _mm512_reduce_add_epi64(totals);
}

}  // namespace sta::avx512

STA_END_TARGET

#endif
