// Products, for processors with AVX-512 and VNNI.
//
// `vpdpbusd` multiplies unsigned bytes by signed ones. Signed activations are made unsigned by adding 128, which
// flipping their top bit does; 128 times the sum of each column of b is taken off in the accumulators' first values.

#if defined(__x86_64__)

#include "kernels/avx512/family.h"
#include "kernels/target.h"

STA_BEGIN_TARGET(STA_AVX512)

#include "kernels/avx512/sums.h"
#include "kernels/scalar/arithmetic.h"

namespace sta::avx512 {
namespace {

constexpr int group = layout.group;
constexpr int most_vectors = 4;
constexpr std::int64_t cache_line = 64;

// Columns whose elements along the depth lie next to each other: a group of them moves as one 32-bit word.
void lay_out_columns(const Matrix& matrix, std::int8_t* laid_out) {
    const std::int64_t step = std::int64_t{layout.padded(matrix.columns)} * group;
    const int whole = matrix.depth / group, rest = matrix.depth % group;
    for (int column = 0; column < matrix.columns; ++column) {
        const std::uint8_t* source = matrix.bytes + column * matrix.column_stride;
        std::int8_t* destination = laid_out + column * group;
        for (int k = 0; k < whole; ++k) {
            scalar::store(destination + k * step, scalar::load<std::int32_t>(source + k * group));
        }
        if (rest) std::memcpy(destination + whole * step, source + whole * group, static_cast<std::size_t>(rest));
    }
}

// Rows along the columns: four rows of sixteen columns are interleaved byte by byte.
void lay_out_rows(const Matrix& matrix, std::int8_t* laid_out) {
    const std::int64_t step = std::int64_t{layout.padded(matrix.columns)} * group;
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

// How many rows are computed at a time: their sums, a vector of b for each of its columns and one of a fill the
// registers.
constexpr int rows_at_a_time(int vectors) {
    return vectors == 1 ? 16 : vectors == 2 ? 12 : vectors == 3 ? 8 : 6;
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
__mmask16 multiply_block(const Product& product, int row, int column, const ReadAhead& read_ahead) {
    const std::int64_t step = std::int64_t{layout.padded(product.columns)} * group;
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
            __m512i left = _mm512_set1_epi32(scalar::load<std::int32_t>(a[i]));
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
void multiply_blocks(Strip& strip) {
    const int steps = (strip.product.depth + group - 1) / group;
    for (; strip.row + rows <= strip.last; strip.row += rows) {
        const ReadAhead ahead = strip.ahead.take(steps, strip.product.b);
        strip.wrong |= multiply_block<rows, vectors, is_signed>(strip.product, strip.row, strip.column, ahead);
    }
}

template <int vectors, bool is_signed>
bool multiply_strip(const Product& product, int first, int last, int column, ReadAhead& ahead) {
    Strip strip{product, first, last, column, ahead};
    multiply_blocks<rows_at_a_time(vectors), vectors, is_signed>(strip);
    if constexpr (vectors <= 2) multiply_blocks<8, vectors, is_signed>(strip);
    multiply_blocks<4, vectors, is_signed>(strip);
    multiply_blocks<2, vectors, is_signed>(strip);
    multiply_blocks<1, vectors, is_signed>(strip);
    return strip.wrong == 0;
}

template <bool is_signed>
bool multiply_columns(const Product& product, int first, int last) {
    const int widest = std::min(most_vectors, (product.columns + lanes - 1) / lanes);
    const int strips = (product.columns + most_vectors * lanes - 1) / (most_vectors * lanes);
    const int blocks = (last - first + rows_at_a_time(widest) - 1) / rows_at_a_time(widest);
    const std::int64_t steps = std::int64_t{strips} * blocks * ((product.depth + group - 1) / group);
    ReadAhead ahead{product.next, product.next_bytes, std::min((product.next_bytes + steps - 1) / steps, cache_line)};
    bool fits = true;
    for (int column = 0; column < product.columns; column += most_vectors * lanes) {
        const int vectors = std::min(most_vectors, (product.columns - column + lanes - 1) / lanes);
        if (vectors == 1) fits &= multiply_strip<1, is_signed>(product, first, last, column, ahead);
        if (vectors == 2) fits &= multiply_strip<2, is_signed>(product, first, last, column, ahead);
        if (vectors == 3) fits &= multiply_strip<3, is_signed>(product, first, last, column, ahead);
        if (vectors == 4) fits &= multiply_strip<4, is_signed>(product, first, last, column, ahead);
    }
    return fits;
}

}  // namespace

void lay_out(const Matrix& matrix, std::int8_t* laid_out, std::int32_t* column_sums) {
    const int columns = layout.padded(matrix.columns);
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

bool multiply_rows(const Product& product, int first, int last) {
    if (product.a_signed) return multiply_columns<true>(product, first, last);
    return multiply_columns<false>(product, first, last);
}

void copy_every_other_byte(const std::uint8_t* source, std::uint8_t* destination, int count) {
    for (int k = 0; k < count; k += 2 * lanes) {
        const int rest = count - k;
        const __mmask32 mask = rest >= 2 * lanes ? 0xFFFFFFFF : (1u << rest) - 1;
        // All bytes up to the last that counts: behind it memory may end.
        const __mmask64 read = rest >= 2 * lanes ? ~std::uint64_t{0} >> 1 : (std::uint64_t{1} << (2 * rest - 1)) - 1;
        _mm512_mask_cvtepi16_storeu_epi8(destination + k, mask, _mm512_maskz_loadu_epi8(read, source + 2 * k));
    }
}

}  // namespace sta::avx512

STA_END_TARGET

#endif
