// Kernels for processors with AVX2.
//
// Products are formed in 16 bits and summed in pairs by `vpmaddwd`, which is exact: both operands fit int16, so that
// two products fit int32. The instruction for bytes, `vpmaddubsw`, saturates its sums at 16 bits and must not be used.

#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>

#include "kernels.h"

// What is included above is compiled for any processor: its functions are shared by all files.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2")
#endif

#include "scalar.h"

namespace sta {
namespace {

constexpr int lanes = 8;
constexpr int group = 2;
constexpr int most_rows = 4;

constexpr Layout layout{group, lanes};

void lay_out(const Matrix& matrix, std::int8_t* laid_out, std::int32_t* column_sums) {
    lay_out_matrix(matrix, layout, laid_out, column_sums);
}

bool runs_here() {
    return __builtin_cpu_supports("avx2");
}

// Activations of a few rows as int16, so that a pair of them is one 32-bit element to broadcast.
struct WideRows {
    alignas(32) std::int16_t values[most_rows][1 << 14];
};

void widen(const Product& product, int first, int rows, WideRows& wide) {
    for (int row = 0; row < rows; ++row) {
        const std::uint8_t* a = product.a + (first + row) * product.a_stride;
        for (int k = 0; k < product.depth; ++k) {
            wide.values[row][k] = product.a_signed ? static_cast<std::int8_t>(a[k]) : a[k];
        }
        wide.values[row][product.depth] = 0;
    }
}

// `rows` rows and two vectors of columns of the result.
template <int rows>
bool product_strip(const Product& product, const WideRows& wide, int first, int column) {
    const int columns = layout.columns(product.columns);
    const int vectors = column + lanes < columns ? 2 : 1;
    const std::int8_t* b = product.b + column * group;
    __m256i sums[rows][2];
    for (int row = 0; row < rows; ++row) sums[row][0] = sums[row][1] = _mm256_setzero_si256();
    for (int k = 0; k < product.depth; k += group, b += columns * group) {
        const __m256i left = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(b)));
        const auto* next = reinterpret_cast<const __m128i*>(b + (vectors - 1) * lanes * group);
        const __m256i right = _mm256_cvtepi8_epi16(_mm_loadu_si128(next));
        for (int row = 0; row < rows; ++row) {
            const __m256i a = _mm256_set1_epi32(load<std::int32_t>(&wide.values[row][k]));
            sums[row][0] = _mm256_add_epi32(sums[row][0], _mm256_madd_epi16(a, left));
            sums[row][1] = _mm256_add_epi32(sums[row][1], _mm256_madd_epi16(a, right));
        }
    }
    const int count = std::min(2 * lanes, product.columns - column);
    bool fits = true;
    for (int row = 0; row < rows; ++row) {
        alignas(32) std::int32_t values[2 * lanes];
        std::memcpy(values, sums[row], sizeof(values));
        fits &= finish(product, values, first + row, column, count);
    }
    return fits;
}

template <int rows>
bool product_rows(const Product& product, WideRows& wide, int first) {
    widen(product, first, rows, wide);
    bool fits = true;
    for (int column = 0; column < product.columns; column += 2 * lanes) {
        fits &= product_strip<rows>(product, wide, first, column);
    }
    return fits;
}

bool product(const Product& product, int first, int last) {
    static thread_local WideRows wide;
    bool fits = true;
    int row = first;
    for (; row + most_rows <= last; row += most_rows) fits &= product_rows<most_rows>(product, wide, row);
    for (; row < last; ++row) fits &= product_rows<1>(product, wide, row);
    return fits;
}

}  // namespace

const Kernels avx2_kernels = {
    "avx2", runs_here, layout, lay_out, copy_every_other_byte, product, sums_fit, map_rows, softmax_rows, norm_rows,
    statistics_of_row, nullptr,
};

}  // namespace sta

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
