// The vector unit's map, for processors with AVX-512.

#if defined(__x86_64__)

#include "kernels/avx512/family.h"
#include "kernels/target.h"

STA_BEGIN_TARGET(STA_AVX512)

#include "kernels/avx512/vectors.h"
#include "kernels/scalar/map.h"

namespace sta::avx512 {
namespace {

// The smallest shift with which wide sums are rescaled in vectors.
constexpr int smallest_wide_shift = 8;

// A rescaling of 16 sums of 64 bits, the first eight and the others.
struct WideScale {
    __m512i low[2], high[2];  // what a sum is saturated to
    __m512i multiplier[2], half[2], shift[2];
};

// Eight of sixteen elements, the first or the others, in 64 bits.
inline __m512i eight_of(__m512i values, int half) {
    return _mm512_cvtepi32_epi64(half ? _mm512_extracti64x4_epi64(values, 1) : _mm512_castsi512_si256(values));
}

inline WideScale wide_scale(__m512i multipliers, __m512i shifts) {
    const __m512i one = _mm512_set1_epi64(1);
    WideScale scale;
    for (int half = 0; half < 2; ++half) {
        scale.multiplier[half] = eight_of(multipliers, half);
        scale.half[half] = _mm512_sllv_epi64(one, _mm512_sub_epi64(eight_of(shifts, half), one));
        scale.low[half] = _mm512_sub_epi64(_mm512_setzero_si512(), scale.half[half]);
        scale.high[half] = _mm512_sub_epi64(scale.half[half], one);
        scale.shift[half] = _mm512_sub_epi64(eight_of(shifts, half), _mm512_set1_epi64(8));
    }
    return scale;
}

// Sums below 2^40 in magnitude, so that 71 bits of a product are needed. It is formed of 256 * high + low; of the part
// with `low` only what is above 8 bits reaches the result, as the shift is at least that.
inline __m256i rescaled_eight(__m512i sums, const WideScale& scale, int half) {
    const __m512i limited = _mm512_min_epi64(_mm512_max_epi64(sums, scale.low[half]), scale.high[half]);
    const __m512i high = _mm512_srai_epi64(limited, 8), low = _mm512_and_si512(limited, _mm512_set1_epi64(255));
    const __m512i low_product = _mm512_add_epi64(_mm512_mul_epi32(low, scale.multiplier[half]), scale.half[half]);
    const __m512i product = _mm512_mullo_epi64(high, scale.multiplier[half]);
    const __m512i sum = _mm512_add_epi64(product, _mm512_srai_epi64(low_product, 8));
    return _mm512_cvtepi64_epi32(_mm512_srav_epi64(sum, scale.shift[half]));
}

// 256 * high + low + bias, rescaled. The results fit int32: their magnitude is at most 2^30.
inline __m512i rescaled_wide(__m512i high, __m512i low, __m512i bias, const WideScale& scale) {
    __m256i results[2];
    for (int half = 0; half < 2; ++half) {
        const __m512i planes = _mm512_add_epi64(_mm512_slli_epi64(eight_of(high, half), 8), eight_of(low, half));
        results[half] = rescaled_eight(_mm512_add_epi64(planes, eight_of(bias, half)), scale, half);
    }
    return _mm512_inserti64x4(_mm512_castsi256_si512(results[0]), results[1], 1);
}

inline __m512i looked_up(const std::int16_t* table, __m512i values) {
    const __m512i lowest = _mm512_set1_epi32(-32768), highest = _mm512_set1_epi32(32767);
    const __m512i x = _mm512_min_epi32(_mm512_max_epi32(values, lowest), highest);
    const __m512i entry = _mm512_add_epi32(_mm512_srai_epi32(x, 7), _mm512_set1_epi32(256));
    // One element of the gather holds an entry and the next.
    const __m512i pair = _mm512_i32gather_epi32(entry, table, 2);
    const __m512i low = _mm512_srai_epi32(_mm512_slli_epi32(pair, 16), 16);
    const __m512i difference = _mm512_sub_epi32(_mm512_srai_epi32(pair, 16), low);
    const __m512i fraction = _mm512_and_si512(x, _mm512_set1_epi32(127));
    return _mm512_add_epi32(_mm512_slli_epi32(low, 7), _mm512_mullo_epi32(difference, fraction));
}

// Whether no sum of a map leaves int32 but those of source and bias, which are checked.
bool stays_in_int32(const Map& map) {
    const MapParameters& parameters = *map.parameters;
    const auto bound = [](std::int64_t value, Scale scale) {
        return scalar::rescaled(std::min(value, std::int64_t{1} << 31), scale) + 1;
    };
    const bool is_bounded = !map.rows && map.source_type != Element::wide;
    std::int64_t largest = is_bounded ? parameters.largest_result : std::int64_t{1} << 30;
    if (map.table) largest = bound(1 << 22, parameters.table);
    if (map.residual) {
        const std::int64_t residual_bias = parameters.residual_bias;
        const std::int64_t source = std::int64_t{1} << (map.residual_type == Element::s32 ? 31 : 15);
        const std::int64_t other = source + (residual_bias < 0 ? -residual_bias : residual_bias);
        if (other >= std::int64_t{1} << 31) return false;
        largest = map.combine == Combination::multiply ? bound(1 << 30, parameters.residual)
                                                        : largest + bound(other, parameters.residual);
    }
    const std::int64_t zero_point = parameters.zero_point;
    return largest + (zero_point < 0 ? -zero_point : zero_point) < std::int64_t{1} << 31;
}

inline __m512i saturated_16(__m512i values) {
    return _mm512_min_epi32(_mm512_max_epi32(values, _mm512_set1_epi32(-32768)), _mm512_set1_epi32(32767));
}

inline __m512i combined(Combination combine, __m512i values, __m512i residuals) {
    switch (combine) {
        case Combination::subtract: return _mm512_sub_epi32(values, residuals);
        case Combination::subtract_from: return _mm512_sub_epi32(residuals, values);
        case Combination::maximum: return _mm512_max_epi32(values, residuals);
        case Combination::minimum: return _mm512_min_epi32(values, residuals);
        default: return _mm512_add_epi32(values, residuals);
    }
}

// Sixteen columns of a map, in some of the rows. What does not change from row to row is held in local variables: what
// is stored might be anything else, as far as the compiler knows.
template <Element source_type, Element destination_type, bool normalize>
bool map_strip(const Map& map, int column, int first, int last) {
    const MapParameters& parameters = *map.parameters;
    const __mmask16 mask = first_lanes(map.columns - column);
    const int channel = map.per_channel ? column : 0;
    const auto channels = [&](const std::vector<std::int32_t>& values) {
        return map.per_channel ? _mm512_loadu_si512(values.data() + channel) : _mm512_set1_epi32(values[0]);
    };
    constexpr bool is_wide = source_type == Element::wide;
    const __m512i bias = channels(parameters.bias), zero_point = _mm512_set1_epi32(parameters.zero_point);
    const auto scale_of = [](__m512i multipliers, __m512i shifts) {
        if constexpr (is_wide) return wide_scale(multipliers, shifts);
        else return vector_scale(multipliers, shifts);
    };
    const auto scale = scale_of(channels(parameters.multiplier), channels(parameters.shift));
    const VectorScale table_scale = vector_scale(parameters.table);
    const VectorScale residual_scale = vector_scale(parameters.residual);
    const __m512i residual_bias = _mm512_set1_epi32(parameters.residual_bias);
    const std::int16_t* table = map.table;
    const Element residual_type = map.residual_type;
    const std::int64_t residual_stride = map.residual_stride;
    const bool residual_column = map.residual_column;
    const Combination combine = map.combine;
    const std::uint8_t* source = map.source + first * map.source_stride;
    const std::uint8_t* residual = map.residual ? map.residual + first * residual_stride : nullptr;
    std::uint8_t* destination = map.destination + first * map.destination_stride;
    const std::int64_t source_stride = map.source_stride, destination_stride = map.destination_stride;
    __m512i overflow = _mm512_setzero_si512();
    for (int row = first; row < last; ++row) {
        const __m512i value = load_elements(source, source_type, column, mask);
        auto row_scale = scale;
        if constexpr (normalize) {
            const Scale given = map.rows[row];
            row_scale = scale_of(_mm512_set1_epi32(given.multiplier), _mm512_set1_epi32(given.shift));
        }
        __m512i result;
        if constexpr (is_wide) {
            const __m512i low = load_elements(source, Element::s32, map.columns + column, mask);
            result = rescaled_wide(value, low, bias, row_scale);
        } else {
            const __m512i sum = _mm512_add_epi32(value, bias);
            // The sign of a sum out of range differs from those of both terms: that of (s ^ a) & (s ^ b) is set.
            const __m512i wrong = _mm512_and_si512(_mm512_xor_si512(sum, value), _mm512_xor_si512(sum, bias));
            overflow = _mm512_mask_or_epi32(overflow, mask, overflow, wrong);
            result = rescaled(sum, row_scale);
        }
        if (normalize && map.empty[row]) result = _mm512_setzero_si512();
        if (table) result = rescaled(looked_up(table, result), table_scale);
        if (residual) {
            const __m512i elements =
                residual_column
                    ? _mm512_set1_epi32(static_cast<std::int32_t>(scalar::element(residual, residual_type, 0)))
                    : load_elements(residual, residual_type, column, mask);
            const __m512i other = _mm512_add_epi32(elements, residual_bias);
            if (combine == Combination::multiply) {
                const __m512i product = _mm512_mullo_epi32(saturated_16(result), saturated_16(other));
                result = rescaled(product, residual_scale);
            } else {
                result = combined(combine, result, rescaled(other, residual_scale));
            }
            residual += residual_stride;
        }
        store_elements(destination, destination_type, column, mask, _mm512_add_epi32(result, zero_point));
        source += source_stride;
        destination += destination_stride;
    }
    return _mm512_movepi32_mask(overflow) == 0;
}

using MapStrip = bool (*)(const Map&, int, int, int);

template <Element source_type, bool normalize>
MapStrip strip_to(Element destination_type) {
    switch (destination_type) {
        case Element::s8: return map_strip<source_type, Element::s8, normalize>;
        case Element::u8: return map_strip<source_type, Element::u8, normalize>;
        case Element::s16: return map_strip<source_type, Element::s16, normalize>;
        default: return map_strip<source_type, Element::s32, normalize>;
    }
}

template <bool normalize>
MapStrip strip_from_to(Element source_type, Element destination_type) {
    switch (source_type) {
        case Element::s8: return strip_to<Element::s8, normalize>(destination_type);
        case Element::u8: return strip_to<Element::u8, normalize>(destination_type);
        case Element::s16: return strip_to<Element::s16, normalize>(destination_type);
        case Element::wide: return strip_to<Element::wide, normalize>(destination_type);
        default: return strip_to<Element::s32, normalize>(destination_type);
    }
}

// Whether the shifts of a map are large enough for sums of 64 bits.
bool shifts_suit(const Map& map, int first, int last) {
    if (map.source_type != Element::wide) return true;
    bool suit = true;
    if (map.rows) {
        for (int row = first; row < last; ++row) suit &= map.rows[row].shift >= smallest_wide_shift;
        return suit;
    }
    const std::int32_t* shifts = map.parameters->shift.data();
    for (int i = 0; i < (map.per_channel ? map.columns : 1); ++i) suit &= shifts[i] >= smallest_wide_shift;
    return suit;
}

}  // namespace

bool map_rows(const Map& map, int first, int last) {
    if (!stays_in_int32(map) || !shifts_suit(map, first, last)) return scalar::map_rows(map, first, last);
    const MapStrip strip = map.rows ? strip_from_to<true>(map.source_type, map.destination_type)
                                    : strip_from_to<false>(map.source_type, map.destination_type);
    bool fits = true;
    for (int column = 0; column < map.columns; column += lanes) fits = strip(map, column, first, last) && fits;
    return fits;
}

}  // namespace sta::avx512

STA_END_TARGET

#endif
