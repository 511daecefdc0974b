// Kernels for processors with AVX-512 and VNNI.
//
// `vpdpbusd` multiplies unsigned bytes by signed ones. Signed activations are made unsigned by adding 128, which
// flipping their top bit does; 128 times the sum of each column of b is taken off in the accumulators' first values.

#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>

#include "kernels.h"

// What is included above is compiled for any processor: its functions are shared by all files.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")
#endif

#include "avx512_sums.h"
#include "scalar.h"

namespace sta {
namespace {

constexpr int lanes = 16;
constexpr int group = 4;
constexpr int most_vectors = 4;
constexpr std::int64_t cache_line = 64;

constexpr Layout layout{group, lanes};

bool runs_here() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}

inline __mmask16 first_lanes(int count) {
    return static_cast<__mmask16>(count >= lanes ? 0xFFFF : (1u << count) - 1);
}

// ------------------------------------------------------------------------------------------------ products

// Columns whose elements along the depth lie next to each other: a group of them moves as one 32-bit word.
void lay_out_columns(const Matrix& matrix, std::int8_t* laid_out) {
    const std::int64_t step = std::int64_t{layout.columns(matrix.columns)} * group;
    const int whole = matrix.depth / group, rest = matrix.depth % group;
    for (int column = 0; column < matrix.columns; ++column) {
        const std::uint8_t* source = matrix.bytes + column * matrix.column_stride;
        std::int8_t* destination = laid_out + column * group;
        for (int k = 0; k < whole; ++k) store(destination + k * step, load<std::int32_t>(source + k * group));
        if (rest) std::memcpy(destination + whole * step, source + whole * group, static_cast<std::size_t>(rest));
    }
}

// Rows along the columns: four rows of sixteen columns are interleaved byte by byte.
void lay_out_rows(const Matrix& matrix, std::int8_t* laid_out) {
    const std::int64_t step = std::int64_t{layout.columns(matrix.columns)} * group;
    for (int k = 0; k < matrix.depth; k += group) {
        for (int column = 0; column < matrix.columns; column += lanes) {
            __m128i rows[group];
            for (int i = 0; i < group; ++i) {
                const __mmask16 mask = k + i < matrix.depth ? first_lanes(matrix.columns - column) : 0;
                rows[i] = _mm_maskz_loadu_epi8(mask, matrix.bytes + (k + i) * matrix.depth_stride + column);
            }
            const __m128i low[2] = {_mm_unpacklo_epi8(rows[0], rows[1]), _mm_unpacklo_epi8(rows[2], rows[3])};
            const __m128i high[2] = {_mm_unpackhi_epi8(rows[0], rows[1]), _mm_unpackhi_epi8(rows[2], rows[3])};
            auto* destination = reinterpret_cast<__m128i*>(laid_out + k / group * step + column * group);
            _mm_storeu_si128(destination, _mm_unpacklo_epi16(low[0], low[1]));
            _mm_storeu_si128(destination + 1, _mm_unpackhi_epi16(low[0], low[1]));
            _mm_storeu_si128(destination + 2, _mm_unpacklo_epi16(high[0], high[1]));
            _mm_storeu_si128(destination + 3, _mm_unpackhi_epi16(high[0], high[1]));
        }
    }
}

void lay_out(const Matrix& matrix, std::int8_t* laid_out, std::int32_t* column_sums) {
    const int columns = layout.columns(matrix.columns);
    if (matrix.column_stride == 1) {
        lay_out_rows(matrix, laid_out);
    } else {
        // What fills columns and depth up; rows bring it along.
        if (columns != matrix.columns || matrix.depth % group) {
            std::memset(laid_out, 0, layout.size(matrix.columns, matrix.depth));
        }
        lay_out_columns(matrix, laid_out);
    }
    const __m512i ones = _mm512_set1_epi8(1);
    for (int column = 0; column < columns; column += lanes) {
        __m512i sums = _mm512_setzero_si512();
        for (int k = 0; k < matrix.depth; k += group) {
            const std::int8_t* values = laid_out + std::int64_t{k} * columns + column * group;
            sums = _mm512_dpbusd_epi32(sums, ones, _mm512_loadu_si512(values));
        }
        _mm512_storeu_si512(column_sums + column, sums);
    }
}

// How many rows are computed at a time: their sums, a vector of b for each of its columns and one of a fill the
// registers.
constexpr int rows_at_a_time(int vectors) {
    return vectors == 1 ? 16 : vectors == 2 ? 12 : vectors == 3 ? 8 : 6;
}

// sums += the products of unsigned by signed bytes, four by four. Written out because GCC keeps sums in more registers
// than there are if it is left the choice of where the result of the intrinsic goes.
inline void add_products(__m512i& sums, __m512i unsigned_bytes, __m512i signed_bytes) {
    asm("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(unsigned_bytes), "v"(signed_bytes));
}

// Where blocks read ahead: the weights that are needed next, some bytes at each step along the depth, so that the whole
// product has asked for all of them. To ask for a line of cache again costs nothing, to ask for many at a time does.
struct ReadAhead {
    const std::int8_t* next;
    std::int64_t left, per_step;

    // Where a block of so many steps reads ahead, and how fast; `instead`, again and again, if nothing is left.
    ReadAhead take(std::int64_t steps, const std::int8_t* instead) {
        const std::int64_t bytes = steps * per_step;
        if (left < bytes || bytes == 0) return {instead, 0, 0};
        const ReadAhead taken{next, bytes, per_step};
        left -= bytes;
        next += bytes;
        return taken;
    }
};

// Rows of activations that move along the depth together. A pointer for each would be more than there are registers:
// there is one for every four rows, and what lies between these is one register times 1 or 2, or another.
template <int rows>
class RowPointers {
public:
    RowPointers(const std::uint8_t* first, std::int64_t stride) : stride_(stride), three_strides_(3 * stride) {
#pragma GCC unroll 4
        for (int i = 0; i < bases; ++i) bases_[i] = first + 4 * i * stride;
    }

    void advance() {
#pragma GCC unroll 4
        for (int i = 0; i < bases; ++i) {
            bases_[i] += group;
            // Hides from the compiler what it would make more pointers of.
            asm("" : "+r"(bases_[i]));
        }
        asm("" : "+r"(stride_), "+r"(three_strides_));
    }

    const std::uint8_t* operator[](int row) const {
        const std::int64_t between[4] = {0, stride_, 2 * stride_, three_strides_};
        return bases_[row / 4] + between[row % 4];
    }

private:
    static constexpr int bases = (rows + 3) / 4;

    const std::uint8_t* bases_[bases];
    std::int64_t stride_, three_strides_;
};

template <int rows, int vectors, bool is_signed>
__mmask16 product_block(const Product& product, int row, int column, const ReadAhead& read_ahead) {
    const std::int64_t step = std::int64_t{layout.columns(product.columns)} * group;
    const std::int8_t *b = product.b + column * group, *ahead = read_ahead.next;
    const std::int64_t ahead_step = read_ahead.per_step;
    RowPointers<rows> a(product.a + row * product.a_stride, product.a_stride);
    __m512i sums[rows][vectors];
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 4
        for (int j = 0; j < vectors; ++j) {
            const __m512i column_sums = _mm512_loadu_si512(product.column_sums + column + lanes * j);
            sums[i][j] = is_signed ? _mm512_slli_epi32(_mm512_sub_epi32(_mm512_setzero_si512(), column_sums), 7)
                                   : _mm512_setzero_si512();
        }
    }
    const __m512i top_bits = _mm512_set1_epi32(static_cast<int>(0x80808080));
    for (int k = 0; k < product.depth; k += group, a.advance(), b += step, ahead += ahead_step) {
        __m512i right[vectors];
        _mm_prefetch(reinterpret_cast<const char*>(ahead), _MM_HINT_T0);
#pragma GCC unroll 4
        for (int j = 0; j < vectors; ++j) right[j] = _mm512_loadu_si512(b + j * lanes * group);
#pragma GCC unroll 16
        for (int i = 0; i < rows; ++i) {
            __m512i left = _mm512_set1_epi32(load<std::int32_t>(a[i]));
            if (is_signed) left = _mm512_xor_si512(left, top_bits);
#pragma GCC unroll 4
            for (int j = 0; j < vectors; ++j) add_products(sums[i][j], left, right[j]);
        }
    }
    return finish<rows, vectors>(product, row, column, sums);
}

// The rows of a strip of columns that are not computed yet.
struct Strip {
    const Product& product;
    int row, last;
    int column;
    ReadAhead& ahead;
    __mmask16 wrong = 0;
};

template <int rows, int vectors, bool is_signed>
void product_blocks(Strip& strip) {
    const int steps = (strip.product.depth + group - 1) / group;
    for (; strip.row + rows <= strip.last; strip.row += rows) {
        const ReadAhead ahead = strip.ahead.take(steps, strip.product.b);
        strip.wrong |= product_block<rows, vectors, is_signed>(strip.product, strip.row, strip.column, ahead);
    }
}

template <int vectors, bool is_signed>
bool product_strip(const Product& product, int first, int last, int column, ReadAhead& ahead) {
    Strip strip{product, first, last, column, ahead};
    product_blocks<rows_at_a_time(vectors), vectors, is_signed>(strip);
    if constexpr (vectors <= 2) product_blocks<8, vectors, is_signed>(strip);
    product_blocks<4, vectors, is_signed>(strip);
    product_blocks<2, vectors, is_signed>(strip);
    product_blocks<1, vectors, is_signed>(strip);
    return strip.wrong == 0;
}

template <bool is_signed>
bool product_columns(const Product& product, int first, int last) {
    const int widest = std::min(most_vectors, (product.columns + lanes - 1) / lanes);
    const int strips = (product.columns + most_vectors * lanes - 1) / (most_vectors * lanes);
    const int blocks = (last - first + rows_at_a_time(widest) - 1) / rows_at_a_time(widest);
    const std::int64_t steps = std::int64_t{strips} * blocks * ((product.depth + group - 1) / group);
    ReadAhead ahead{product.next, product.next_bytes, std::min((product.next_bytes + steps - 1) / steps, cache_line)};
    bool fits = true;
    for (int column = 0; column < product.columns; column += most_vectors * lanes) {
        const int vectors = std::min(most_vectors, (product.columns - column + lanes - 1) / lanes);
        if (vectors == 1) fits &= product_strip<1, is_signed>(product, first, last, column, ahead);
        if (vectors == 2) fits &= product_strip<2, is_signed>(product, first, last, column, ahead);
        if (vectors == 3) fits &= product_strip<3, is_signed>(product, first, last, column, ahead);
        if (vectors == 4) fits &= product_strip<4, is_signed>(product, first, last, column, ahead);
    }
    return fits;
}

bool product(const Product& product, int first, int last) {
    if (product.a_signed) return product_columns<true>(product, first, last);
    return product_columns<false>(product, first, last);
}

// ------------------------------------------------------------------------------------------------ rescaling

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

// The smallest shift with which wide sums are rescaled in vectors.
constexpr int smallest_wide_shift = 8;

// A rescaling of 16 sums of 64 bits, the first eight and the others.
struct WideScale {
    __m512i low[2], high[2];  // what a sum is saturated to
    __m512i multiplier[2], half[2], shift[2];
};

inline WideScale wide_scale(__m512i multipliers, __m512i shifts) {
    const __m512i one = _mm512_set1_epi64(1);
    WideScale scale;
    for (int i = 0; i < 2; ++i) {
        const auto words = [i](__m512i values) {
            return _mm512_cvtepi32_epi64(i ? _mm512_extracti64x4_epi64(values, 1) : _mm512_castsi512_si256(values));
        };
        scale.multiplier[i] = words(multipliers);
        scale.half[i] = _mm512_sllv_epi64(one, _mm512_sub_epi64(words(shifts), one));
        scale.low[i] = _mm512_sub_epi64(_mm512_setzero_si512(), scale.half[i]);
        scale.high[i] = _mm512_sub_epi64(scale.half[i], one);
        scale.shift[i] = _mm512_sub_epi64(words(shifts), _mm512_set1_epi64(8));
    }
    return scale;
}

// Sums below 2^40 in magnitude, so that 71 bits of a product are needed. It is formed of 256 * high + low; of the part
// with `low` only what is above 8 bits reaches the result, as the shift is at least that.
inline __m256i rescaled_eight(__m512i sums, const WideScale& scale, int i) {
    const __m512i limited = _mm512_min_epi64(_mm512_max_epi64(sums, scale.low[i]), scale.high[i]);
    const __m512i high = _mm512_srai_epi64(limited, 8), low = _mm512_and_si512(limited, _mm512_set1_epi64(255));
    const __m512i low_product = _mm512_add_epi64(_mm512_mul_epi32(low, scale.multiplier[i]), scale.half[i]);
    const __m512i product = _mm512_mullo_epi64(high, scale.multiplier[i]);
    const __m512i sum = _mm512_add_epi64(product, _mm512_srai_epi64(low_product, 8));
    return _mm512_cvtepi64_epi32(_mm512_srav_epi64(sum, scale.shift[i]));
}

// 256 * high + low + bias, rescaled. The results fit int32: their magnitude is at most 2^30.
inline __m512i rescaled_wide(__m512i high, __m512i low, __m512i bias, const WideScale& scale) {
    const auto first = [](__m512i values) { return _mm512_cvtepi32_epi64(_mm512_castsi512_si256(values)); };
    const auto second = [](__m512i values) { return _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(values, 1)); };
    const auto sum = [](__m512i high, __m512i low, __m512i bias) {
        return _mm512_add_epi64(_mm512_add_epi64(_mm512_slli_epi64(high, 8), low), bias);
    };
    const __m256i left = rescaled_eight(sum(first(high), first(low), first(bias)), scale, 0);
    const __m256i right = rescaled_eight(sum(second(high), second(low), second(bias)), scale, 1);
    return _mm512_inserti64x4(_mm512_castsi256_si512(left), right, 1);
}

// ------------------------------------------------------------------------------------------------ map

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
        return rescaled(std::min(value, std::int64_t{1} << 31), Scale{scale.multiplier, scale.shift}) + 1;
    };
    const bool is_bounded = !map.rows && map.source_type != Element::wide;
    std::int64_t largest = is_bounded ? parameters.largest_result : std::int64_t{1} << 30;
    if (map.table) largest = bound(1 << 22, parameters.table);
    if (map.residual) {
        const std::int64_t residual_bias = parameters.residual_bias;
        const std::int64_t source = std::int64_t{1} << (map.residual_type == Element::s32 ? 31 : 15);
        const std::int64_t other = source + (residual_bias < 0 ? -residual_bias : residual_bias);
        if (other >= std::int64_t{1} << 31) return false;
        largest = map.multiply ? bound(1 << 30, parameters.residual) : largest + bound(other, parameters.residual);
    }
    const std::int64_t zero_point = parameters.zero_point;
    return largest + (zero_point < 0 ? -zero_point : zero_point) < std::int64_t{1} << 31;
}

__m512i saturated_16(__m512i values) {
    return _mm512_min_epi32(_mm512_max_epi32(values, _mm512_set1_epi32(-32768)), _mm512_set1_epi32(32767));
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
    const bool multiply = map.multiply;
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
            const __m512i other =
                _mm512_add_epi32(load_elements(residual, residual_type, column, mask), residual_bias);
            if (multiply) {
                const __m512i product = _mm512_mullo_epi32(saturated_16(result), saturated_16(other));
                result = rescaled(product, residual_scale);
            } else {
                result = _mm512_add_epi32(result, rescaled(other, residual_scale));
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

bool map(const Map& map, int first, int last) {
    if (!stays_in_int32(map) || !shifts_suit(map, first, last)) return map_rows(map, first, last);
    const MapStrip strip = map.rows ? strip_from_to<true>(map.source_type, map.destination_type)
                                    : strip_from_to<false>(map.source_type, map.destination_type);
    bool fits = true;
    for (int column = 0; column < map.columns; column += lanes) fits = strip(map, column, first, last) && fits;
    return fits;
}

// ------------------------------------------------------------------------------------------------ softmax

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
    return softmax.scale.shift <= 32 || -rescaled(lowest, softmax.scale) >= softmax.exponentials.count - 1;
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
          destination(softmax.destination + row * softmax.destination_stride),
          visible(visible_keys(softmax, row)) {}

    const std::uint8_t* scores;
    const std::uint8_t* mask;
    std::uint8_t* destination;
    int visible;
};

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
bool online_softmax_row_in_vectors(const Softmax& softmax, const VectorScale& scale, int number) {
    const SoftmaxRow row(softmax, number);
    const __m512i lowest = _mm512_set1_epi32(std::numeric_limits<std::int32_t>::min());
    __m512i largest = lowest;
    bool any = false;
    for (int key = 0; key < row.visible; key += lanes) {
        const __mmask16 allowed = admissible(row.mask, key, row.visible);
        const __m512i exponents = rescaled(_mm512_maskz_loadu_epi32(allowed, row.scores + 4 * key), scale);
        largest = _mm512_mask_max_epi32(largest, allowed, largest, exponents);
        any = any || allowed;
    }
    raise_maximum(*softmax.states, number, any, _mm512_reduce_max_epi32(largest));
    // Exponents are in [-2^30, 2^30]: below an origin beyond that by more than there are results, all are the last one.
    const std::int64_t farthest = (std::int64_t{1} << 30) + (1 << 17);
    const std::int64_t origin = std::min(std::int64_t{softmax.states->maxima[number]} * 1024, farthest);
    const __m512i from = _mm512_set1_epi32(static_cast<std::int32_t>(origin));
    __m512i sums = _mm512_setzero_si512();
    for (int key = 0; key < softmax.keys; key += lanes) {
        const __mmask16 allowed = admissible(row.mask, key, row.visible);
        const __m512i exponents = rescaled(_mm512_maskz_loadu_epi32(allowed, row.scores + 4 * key), scale);
        const __m512i results = exponentials_of<bytes>(softmax, _mm512_sub_epi32(from, exponents), allowed);
        sums = _mm512_add_epi32(sums, results);
        store_exponentials<bytes>(row.destination, key, softmax.keys, results);
    }
    return add_to_sum(softmax, number, _mm512_reduce_add_epi32(sums));
}

template <int bytes>
bool softmax_rows_in_vectors(const Softmax& softmax, int first, int last) {
    const VectorScale scale = vector_scale(softmax.scale);
    bool fits = true;
    for (int row = first; row < last; ++row) {
        if (softmax.states) fits = online_softmax_row_in_vectors<bytes>(softmax, scale, row) && fits;
        else softmax_row_in_vectors<bytes>(softmax, scale, row);
    }
    return fits;
}

bool softmax(const Softmax& softmax, int first, int last) {
    if (!softmax.states && !saturates(softmax)) return softmax_rows(softmax, first, last);
    if (softmax.exponentials.bytes == 1) return softmax_rows_in_vectors<1>(softmax, first, last);
    return softmax_rows_in_vectors<2>(softmax, first, last);
}

// ------------------------------------------------------------------------------------------------ norm

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

void norm(const Norm& norm, int first, int last) {
    const VectorScale copy_scale = vector_scale(norm.parameters->copy);
    const __m512i zero_point = _mm512_set1_epi32(norm.parameters->copy_zero_point);
    // A zero point this large saturates whatever it is added to, and is served without vectors.
    if (std::abs(std::int64_t{norm.parameters->copy_zero_point}) >= 1 << 29) return norm_rows(norm, first, last);
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

void every_other_byte(const std::uint8_t* source, std::uint8_t* destination, int count) {
    for (int k = 0; k < count; k += 2 * lanes) {
        const int rest = count - k;
        const __mmask32 mask = rest >= 2 * lanes ? 0xFFFFFFFF : (1u << rest) - 1;
        // All bytes up to the last that counts: behind it memory may end.
        const __mmask64 read = rest >= 2 * lanes ? ~std::uint64_t{0} >> 1 : (std::uint64_t{1} << (2 * rest - 1)) - 1;
        _mm512_mask_cvtepi16_storeu_epi8(destination + k, mask, _mm512_maskz_loadu_epi8(read, source + 2 * k));
    }
}

void row_statistics(const std::uint8_t* row, int columns, std::int64_t& sum, std::int64_t& squares) {
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

}  // namespace

const Kernels avx512_kernels = {
    "avx512-vnni", runs_here, layout, lay_out, every_other_byte, product, sums_fit, map, softmax, norm,
    row_statistics, &avx512_sparse_kernels,
};

}  // namespace sta

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
