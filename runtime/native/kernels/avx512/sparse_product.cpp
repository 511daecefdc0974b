// Products with sparse weights, for processors with AVX-512, VNNI and VBMI.
//
// `vpermb` takes bytes of a register in any order: of 64 activations those that four kept weights of each of sixteen
// columns are multiplied by. So what is not kept costs nothing, and a weight takes two bytes: its value and its
// position in a segment of 64 activations.

#if defined(__x86_64__)

#include "kernels/avx512/family.h"
#include "kernels/target.h"

namespace sta::avx512 {
namespace {

bool runs_here() {
    return __builtin_cpu_supports("avx512vbmi");
}

}  // namespace
}  // namespace sta::avx512

STA_BEGIN_TARGET(STA_AVX512_VBMI)

#include "kernels/avx512/sums.h"

namespace sta::avx512 {
namespace {

constexpr int segment = 64;
constexpr int group = 4;
constexpr int quad_bytes = 2 * segment;

int divided(int value, int by) {
    return (value + by - 1) / by;
}

int quad_counts(int columns, int depth) {
    return divided(columns, lanes) * divided(depth, segment);
}

// Calls keep(column, k) for all weights of sixteen columns and a segment that are not zero.
template <typename Keep>
void each_kept(const Matrix& matrix, int first, int start, const Keep& keep) {
    const int columns_end = first + lanes < matrix.columns ? first + lanes : matrix.columns;
    const int end = start + segment < matrix.depth ? start + segment : matrix.depth;
    for (int column = first; column < columns_end; ++column) {
        const std::uint8_t* row = matrix.bytes + column * matrix.column_stride;
        const auto here = end - start == segment ? ~__mmask64{0} : (__mmask64{1} << (end - start)) - 1;
        const __m512i values = _mm512_maskz_loadu_epi8(here, row + start);
        for (__mmask64 left = _mm512_test_epi8_mask(values, values); left; left &= left - 1) {
            const int k = start + __builtin_ctzll(left);
            keep(column - first, k, row[k]);
        }
    }
}

// The most weights that a column keeps, by four, rounded up: for each sixteen columns, for each segment.
std::size_t count_quads(const Matrix& matrix, std::uint16_t* quads) {
    std::size_t total = 0;
    for (int column = 0; column < matrix.columns; column += lanes) {
        for (int start = 0; start < matrix.depth; start += segment) {
            int kept[lanes] = {};
            int most = 0;
            each_kept(matrix, column, start, [&](int lane, int, std::uint8_t) {
                ++kept[lane];
                most = kept[lane] > most ? kept[lane] : most;
            });
            *quads = static_cast<std::uint16_t>(divided(most, group));
            total += *quads++;
        }
    }
    return total * quad_bytes;
}

void lay_out_quads(const Matrix& matrix, const std::uint16_t* quads, std::uint8_t* laid_out,
                   std::int32_t* column_sums) {
    const int columns = divided(matrix.columns, lanes) * lanes;
    std::memset(column_sums, 0, sizeof(std::int32_t) * static_cast<std::size_t>(columns));
    for (int column = 0; column < matrix.columns; column += lanes) {
        for (int start = 0; start < matrix.depth; start += segment) {
            const int size = *quads++ * quad_bytes;
            std::memset(laid_out, 0, static_cast<std::size_t>(size));
            int kept[lanes] = {};
            each_kept(matrix, column, start, [&](int lane, int k, std::uint8_t value) {
                const int number = kept[lane]++;
                std::uint8_t* position = laid_out + number / group * quad_bytes + lane * group + number % group;
                position[0] = static_cast<std::uint8_t>(k - start);
                position[segment] = value;
                column_sums[column + lane] += static_cast<std::int8_t>(value);
            });
            laid_out += size;
        }
    }
}

// `rows` rows of sixteen columns; leaves `laid_out` behind their weights.
template <int rows>
__mmask16 multiply_block(const Product& product, int row, int column, const std::uint8_t*& laid_out) {
    const std::uint16_t* quads = product.quads + std::int64_t{column / lanes} * divided(product.depth, segment);
    const __m512i top_bits = _mm512_set1_epi8(product.a_signed ? static_cast<char>(0x80) : 0);
    const __m512i column_sums = _mm512_loadu_si512(product.column_sums + column);
    const __m512i start = _mm512_slli_epi32(_mm512_sub_epi32(_mm512_setzero_si512(), column_sums), 7);
    const std::uint8_t* a = product.a + row * product.a_stride;
    __m512i sums[rows][1];
#pragma GCC unroll 12
    for (int i = 0; i < rows; ++i) sums[i][0] = product.a_signed ? start : _mm512_setzero_si512();
    for (int k = 0; k < product.depth; k += segment, ++quads) {
        const int rest = product.depth - k;
        const __mmask64 mask = rest >= segment ? ~__mmask64{0} : (__mmask64{1} << rest) - 1;
        __m512i activations[rows];
#pragma GCC unroll 12
        for (int i = 0; i < rows; ++i) {
            const __m512i values = _mm512_maskz_loadu_epi8(mask, a + i * product.a_stride + k);
            activations[i] = _mm512_xor_si512(values, top_bits);
        }
        for (int quad = 0; quad < *quads; ++quad, laid_out += quad_bytes) {
            const __m512i positions = _mm512_loadu_si512(laid_out), weights = _mm512_loadu_si512(laid_out + segment);
#pragma GCC unroll 12
            for (int i = 0; i < rows; ++i) {
                add_products(sums[i][0], _mm512_permutexvar_epi8(positions, activations[i]), weights);
            }
        }
    }
    return finish<rows, 1>(product, row, column, sums);
}

// The rows of sixteen columns that are not computed yet.
struct Strip {
    const Product& product;
    int row, last, column;
    const std::uint8_t* laid_out;
    const std::uint8_t* end = nullptr;
    __mmask16 wrong = 0;
};

template <int rows>
void multiply_blocks(Strip& strip) {
    for (; strip.row + rows <= strip.last; strip.row += rows) {
        strip.end = strip.laid_out;
        strip.wrong |= multiply_block<rows>(strip.product, strip.row, strip.column, strip.end);
    }
}

bool multiply_kept(const Product& product, int first, int last) {
    const auto* laid_out = reinterpret_cast<const std::uint8_t*>(product.b);
    __mmask16 wrong = 0;
    for (int column = 0; column < product.columns; column += lanes) {
        Strip strip{product, first, last, column, laid_out};
        multiply_blocks<12>(strip);
        multiply_blocks<8>(strip);
        multiply_blocks<4>(strip);
        multiply_blocks<2>(strip);
        multiply_blocks<1>(strip);
        laid_out = strip.end;
        wrong |= strip.wrong;
    }
    return wrong == 0;
}

}  // namespace

const SparseKernels sparse_kernels = {
    .runs_here = runs_here,
    .quad_counts = quad_counts,
    .count_quads = count_quads,
    .lay_out = lay_out_quads,
    .multiply_rows = multiply_kept,
};

}  // namespace sta::avx512

STA_END_TARGET

#endif
