// The softmax unit, for processors with AVX-512.

#if defined(__x86_64__)

#include "kernels/avx512/family.h"
#include "kernels/target.h"

STA_BEGIN_TARGET(STA_AVX512)

#include "kernels/avx512/vectors.h"
#include "kernels/scalar/softmax.h"

namespace sta::avx512 {
namespace {

// Which of sixteen keys are admissible.
inline __mmask16 admissible(const std::uint8_t* mask, int key, int visible) {
    const __mmask16 lanes_here = first_lanes(std::max(visible - key, 0));
    if (!mask || !lanes_here) return lanes_here;
    const __m128i bytes = _mm_maskz_loadu_epi8(lanes_here, mask + key);
    return _mm_test_epi8_mask(bytes, bytes);
}

// Whether a difference that does not fit int32 may stand for the lowest that does: both give the last exponential.
bool saturates(const Softmax& softmax) {
    const std::int64_t lowest = std::numeric_limits<std::int32_t>::min();
    return softmax.scale.shift <= 32 || -scalar::rescaled(lowest, softmax.scale) >= softmax.exponentials.count - 1;
}

// The exponentials of sixteen exponents below the maximum, none of them negative; zero for keys that do not count.
template <int bytes>
inline __m512i exponentials_of(const Softmax& softmax, __m512i exponents, __mmask16 allowed) {
    const __m512i last = _mm512_set1_epi32(softmax.exponentials.count - 1), zero = _mm512_setzero_si512();
    // Exponents have 32 bits without a sign.
    const __m512i position = _mm512_min_epu32(exponents, last);
    const __m512i results = _mm512_mask_i32gather_epi32(zero, allowed, position, softmax.exponentials.results, bytes);
    return _mm512_and_si512(results, _mm512_set1_epi32(bytes == 1 ? 0xFF : 0xFFFF));
}

template <int bytes>
inline void store_exponentials(std::uint8_t* row, int key, int keys, __m512i exponentials) {
    const __mmask16 here = first_lanes(keys - key);
    if (bytes == 1) _mm512_mask_cvtepi32_storeu_epi8(row + key, here, exponentials);
    else _mm512_mask_cvtepi32_storeu_epi16(row + 2 * key, here, exponentials);
}

// The rows of a softmax: where they lie, and which keys they see.
struct SoftmaxRow {
    SoftmaxRow(const Softmax& softmax, int row)
        : scores(softmax.scores + row * softmax.scores_stride),
          mask(softmax.mask ? softmax.mask + row * softmax.mask_stride : nullptr),
          bias(scalar::bias_of(softmax, row)),
          destination(softmax.destination + row * softmax.destination_stride),
          visible(scalar::visible_keys(softmax, row)) {}

    const std::uint8_t* scores;
    const std::uint8_t* mask;
    const std::uint8_t* bias;
    std::uint8_t* destination;
    int visible;
};

struct VectorScales {
    VectorScale scores, bias;
};

// Scaled scores are in [-2^30, 2^30]; in vectors a scaled bias is no larger than this.
constexpr std::int64_t largest_bias = std::int64_t{1} << 29;

// The scores of sixteen keys and their biases, in log2 units with 10 fraction bits.
inline __m512i exponents_of(const SoftmaxRow& row, const VectorScales& scales, int key, __mmask16 allowed) {
    const __m512i exponents = rescaled(_mm512_maskz_loadu_epi32(allowed, row.scores + 4 * key), scales.scores);
    if (!row.bias) return exponents;
    const __m512i bias = _mm512_cvtepi16_epi32(_mm256_maskz_loadu_epi16(allowed, row.bias + 2 * key));
    return _mm512_add_epi32(exponents, rescaled(bias, scales.bias));
}

// The largest exponent of the admissible keys of a row; the lowest int32 if there is none.
inline std::int32_t largest_exponent(const SoftmaxRow& row, const VectorScales& scales, bool& any) {
    __m512i largest = _mm512_set1_epi32(std::numeric_limits<std::int32_t>::min());
    any = false;
    for (int key = 0; key < row.visible; key += lanes) {
        const __mmask16 allowed = admissible(row.mask, key, row.visible);
        largest = _mm512_mask_max_epi32(largest, allowed, largest, exponents_of(row, scales, key, allowed));
        any = any || allowed;
    }
    return _mm512_reduce_max_epi32(largest);
}

// Writes the exponentials of a row relative to an exponent, and returns their sum. No exponent may lie 2^32 or more
// below `from`.
template <int bytes>
std::int32_t exponentials_from(const Softmax& softmax, const SoftmaxRow& row, const VectorScales& scales,
                               std::int32_t from) {
    __m512i sums = _mm512_setzero_si512();
    for (int key = 0; key < softmax.keys; key += lanes) {
        const __mmask16 allowed = admissible(row.mask, key, row.visible);
        const __m512i exponents = exponents_of(row, scales, key, allowed);
        const __m512i below = _mm512_sub_epi32(_mm512_set1_epi32(from), exponents);
        const __m512i results = exponentials_of<bytes>(softmax, below, allowed);
        sums = _mm512_add_epi32(sums, results);
        store_exponentials<bytes>(row.destination, key, softmax.keys, results);
    }
    return _mm512_reduce_add_epi32(sums);
}

template <int bytes>
void biased_softmax_row_in_vectors(const Softmax& softmax, const VectorScales& scales, int number) {
    const SoftmaxRow row(softmax, number);
    bool any;
    const std::int32_t largest = largest_exponent(row, scales, any);
    softmax.sums[number] = exponentials_from<bytes>(softmax, row, scales, largest);
}

template <int bytes>
void softmax_row_in_vectors(const Softmax& softmax, const VectorScale& scale, int number) {
    const SoftmaxRow row(softmax, number);
    const __m512i lowest = _mm512_set1_epi32(std::numeric_limits<std::int32_t>::min());
    __m512i largest = lowest;
    for (int key = 0; key < row.visible; key += lanes) {
        const __mmask16 allowed = admissible(row.mask, key, row.visible);
        largest = _mm512_max_epi32(largest, _mm512_mask_loadu_epi32(lowest, allowed, row.scores + 4 * key));
    }
    const __m512i maximum = _mm512_set1_epi32(_mm512_reduce_max_epi32(largest)), zero = _mm512_setzero_si512();
    __m512i sums = zero;
    for (int key = 0; key < softmax.keys; key += lanes) {
        const __mmask16 allowed = admissible(row.mask, key, row.visible);
        const __m512i values = _mm512_maskz_loadu_epi32(allowed, row.scores + 4 * key);
        __m512i difference = _mm512_sub_epi32(values, maximum);
        // A difference above zero has wrapped around.
        difference = _mm512_mask_mov_epi32(difference, _mm512_cmpgt_epi32_mask(difference, zero), lowest);
        const __m512i exponents = _mm512_sub_epi32(zero, rescaled(difference, scale));
        const __m512i results = exponentials_of<bytes>(softmax, exponents, allowed);
        sums = _mm512_add_epi32(sums, results);
        store_exponentials<bytes>(row.destination, key, softmax.keys, results);
    }
    softmax.sums[number] = _mm512_reduce_add_epi32(sums);
}

template <int bytes>
bool online_softmax_row_in_vectors(const Softmax& softmax, const VectorScales& scales, int number) {
    const SoftmaxRow row(softmax, number);
    bool any;
    const std::int32_t largest = largest_exponent(row, scales, any);
    scalar::raise_maximum(*softmax.states, number, any, largest);
    // Below an origin beyond all exponents by more than there are results, all are the last one.
    const std::int64_t farthest = (std::int64_t{1} << 30) + largest_bias + (1 << 17);
    const std::int64_t origin = std::min(std::int64_t{softmax.states->maxima[number]} * 1024, farthest);
    const std::int32_t sum = exponentials_from<bytes>(softmax, row, scales, static_cast<std::int32_t>(origin));
    return scalar::add_to_sum(softmax, number, sum);
}

template <int bytes>
bool softmax_rows_in_vectors(const Softmax& softmax, int first, int last) {
    const VectorScales scales{vector_scale(softmax.scale), vector_scale(softmax.bias_scale)};
    bool fits = true;
    for (int row = first; row < last; ++row) {
        if (softmax.states) fits = online_softmax_row_in_vectors<bytes>(softmax, scales, row) && fits;
        else if (softmax.bias) biased_softmax_row_in_vectors<bytes>(softmax, scales, row);
        else softmax_row_in_vectors<bytes>(softmax, scales.scores, row);
    }
    return fits;
}

bool suits_vectors(const Softmax& softmax) {
    if (softmax.bias) return -scalar::rescaled(std::numeric_limits<std::int16_t>::min(), softmax.bias_scale) <= largest_bias;
    return softmax.states || saturates(softmax);
}

}  // namespace

bool softmax_rows(const Softmax& softmax, int first, int last) {
    if (!suits_vectors(softmax)) return scalar::softmax_rows(softmax, first, last);
    if (softmax.exponentials.bytes == 1) return softmax_rows_in_vectors<1>(softmax, first, last);
    return softmax_rows_in_vectors<2>(softmax, first, last);
}

}  // namespace sta::avx512

STA_END_TARGET

#endif
