// Products, for processors with AVX2.
//
// Products are formed in 16 bits and summed in pairs by `vpmaddwd`, which is exact: both operands fit int16, so that
// two products fit int32. The instruction for bytes, `vpmaddubsw`, saturates its sums at 16 bits and must not be used.

#if defined(__x86_64__)

#include "kernels/avx2/family.h"
#include "kernels/target.h"

STA_BEGIN_TARGET(STA_AVX2)

#include "kernels/scalar/product.h"

namespace sta::avx2 {
namespace {

using scalar::load;

constexpr int lanes = layout.lanes;
constexpr int group = layout.group;
constexpr int most_rows = 4;

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
bool multiply_strip(const Product& product, const WideRows& wide, int first, int column) {
    const int columns = layout.padded(product.columns);
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
        fits &= scalar::finish(product, values, first + row, column, count);
    }
    return fits;
}

template <int rows>
bool multiply_some(const Product& product, WideRows& wide, int first) {
    widen(product, first, rows, wide);
    bool fits = true;
    for (int column = 0; column < product.columns; column += 2 * lanes) {
        fits &= multiply_strip<rows>(product, wide, first, column);
    }
    return fits;
}

}  // namespace

bool multiply_rows(const Product& product, int first, int last) {
    static thread_local WideRows wide;
    bool fits = true;
    int row = first;
    for (; row + most_rows <= last; row += most_rows) fits &= multiply_some<most_rows>(product, wide, row);
    for (; row < last; ++row) fits &= multiply_some<1>(product, wide, row);
    return fits;
}

}  // namespace sta::avx2

STA_END_TARGET

#endif
