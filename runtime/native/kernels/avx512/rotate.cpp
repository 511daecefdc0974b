// The vector unit's rotation of pairs of columns, for processors with AVX-512.

#if defined(__x86_64__)

#include <limits>

#include "kernels/avx512/family.h"
#include "kernels/target.h"

STA_BEGIN_TARGET(STA_AVX512)

#include "kernels/avx512/vectors.h"

namespace sta::avx512 {
namespace {

// What sixteen columns are paired with. Columns that are not rotated are paired with themselves.
inline __m512i partners(const Rotation& rotation, const std::uint8_t* row, int column, __mmask16 mask, __m512i own) {
    const __mmask16 rotated = mask & first_lanes(rotation.width - column);
    if (!rotation.half) return _mm512_mask_shuffle_epi32(own, rotated, own, _MM_PERM_CDAB);
    const int half = rotation.width / 2;
    const __mmask16 first = mask & first_lanes(half - column), second = rotated & static_cast<__mmask16>(~first);
    __m512i values = own;
    if (first) {
        values = _mm512_mask_mov_epi32(values, first, load_elements(row, rotation.source_type, column + half, first));
    }
    if (second) {
        values = _mm512_mask_mov_epi32(values, second, load_elements(row, rotation.source_type, column - half, second));
    }
    return values;
}

}  // namespace

void rotate_rows(const Rotation& rotation, int first, int last) {
    const VectorScale scale = vector_scale(rotation.scale);
    const __m512i lowest = _mm512_set1_epi32(std::numeric_limits<std::int32_t>::min());
    const __m512i highest = _mm512_set1_epi32(std::numeric_limits<std::int32_t>::max());
    for (int row = first; row < last; ++row) {
        const std::uint8_t* source = rotation.source + row * rotation.source_stride;
        const std::uint8_t* cosines = rotation.cosines + row * rotation.cosines_stride;
        const std::uint8_t* sines = rotation.sines + row * rotation.sines_stride;
        std::uint8_t* destination = rotation.destination + row * rotation.destination_stride;
        for (int column = 0; column < rotation.columns; column += lanes) {
            const __mmask16 mask = first_lanes(rotation.columns - column);
            const __m512i own = load_elements(source, rotation.source_type, column, mask);
            const __m512i other = partners(rotation, source, column, mask, own);
            const __m512i straight = _mm512_mullo_epi32(own, load_elements(cosines, Element::s16, column, mask));
            const __m512i turned = _mm512_mullo_epi32(other, load_elements(sines, Element::s16, column, mask));
            const __m512i sum = _mm512_add_epi32(straight, turned);
            // The only sum that wraps around is one more than the largest int32, and no other is the lowest.
            const __m512i limited = _mm512_mask_mov_epi32(sum, _mm512_cmpeq_epi32_mask(sum, lowest), highest);
            store_elements(destination, rotation.destination_type, column, mask, rescaled(limited, scale));
        }
    }
}

}  // namespace sta::avx512

STA_END_TARGET

#endif
