// What a family of kernels computes: the arithmetic of one tile, for one kind of processor.
//
// All families give the same bits. A kernel works on a range of rows, so that threads may share a tile; rows do not
// depend on each other. Strides are bytes from one row to the next. Memories end in slack (memory.h), so that a kernel
// may read a few bytes beyond a row; it never writes beyond one.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace sta {

// How a product's second operand is laid out: [depth / group][columns][group], columns and depth filled up with zeros
// to multiples of `lanes` and `group`.
struct Layout {
    int group;
    int lanes;

    // Columns with what fills them up.
    constexpr int padded(int columns) const { return (columns + lanes - 1) / lanes * lanes; }
    constexpr std::size_t size(int columns, int depth) const {
        return static_cast<std::size_t>(padded(columns)) * static_cast<std::size_t>((depth + group - 1) / group * group);
    }
};

// A product's second operand as it lies in memory: element (column, k) at column * column_stride + k * depth_stride,
// where one of the strides is 1.
struct Matrix {
    const std::uint8_t* bytes;
    std::int64_t column_stride, depth_stride;
    int columns, depth;
};

// What a product does to the accumulators. Sums of both wrap around, so that taking back undoes adding in any case.
enum class Result { replace, add, take_back };

// The sum over k of a[i][k] * b[j][k] for acc[i][j]. Never leaves int32: the depth is below 2^14.
struct Product {
    const std::uint8_t* a;
    std::int64_t a_stride;
    bool a_signed;
    const std::int8_t* b;            // laid out
    const std::uint16_t* quads;       // of sparse weights; null: dense
    const std::int32_t* column_sums;  // of b, one for each column, filled up with zeros
    std::uint8_t* acc;
    std::int64_t acc_stride;
    int columns;
    int depth;
    Result result;
    // What the next product is likely to read, so that it may be read ahead; it need not, and must not be relied on.
    const std::int8_t* next;
    std::int64_t next_bytes;
};

// Wide: a row has high and then low sums of 32 bits.
enum class Element { none, s8, u8, s16, s32, wide };

constexpr int element_bytes(Element element) {
    switch (element) {
        case Element::none: return 0;
        case Element::s8:
        case Element::u8: return 1;
        case Element::s16: return 2;
        case Element::s32: return 4;
        default: return 8;
    }
}

// A rescaling: TOSA apply_scale_32 with a single rounding.
struct Scale {
    std::int32_t multiplier;
    std::int32_t shift;
};

// The parameters of a map, checked; see spec/parameters.py.
struct MapParameters {
    std::vector<std::int32_t> bias, multiplier, shift;  // one each, or one for each column, then filled up to 16
    Scale table, residual;
    std::int32_t residual_bias, zero_point;
    std::int64_t largest_result;  // no rescaled source has a larger magnitude, unless its sum scales it
    std::int64_t largest_bias;

    void read_ahead() const {
        for (const std::vector<std::int32_t>* values : {&bias, &multiplier, &shift}) __builtin_prefetch(values->data());
    }
};

// What a map does with a value and its residual; see spec/vector.py.
enum class Combination { add, multiply, subtract, subtract_from, maximum, minimum };

struct Map {
    const std::uint8_t* source;
    std::int64_t source_stride;
    Element source_type;
    const MapParameters* parameters;
    bool per_channel;
    const Scale* rows;              // one for each row, in place of the parameters' scale; null: no normalization
    const std::uint8_t* empty;      // with `rows`: which of them have no sum, and are zero
    const std::int16_t* table;      // 513 entries, not aligned; null: none
    const std::uint8_t* residual;
    std::int64_t residual_stride;
    Element residual_type;
    bool residual_column;  // one element a row, for all columns
    Combination combine;
    std::uint8_t* destination;
    std::int64_t destination_stride;
    Element destination_type;
    int columns;
};

// The powers of two of the softmax unit: results for the exponents 0, -1, -2, .. in 1/1024; what lies beyond the end is
// the last one.
struct Exponentials {
    const std::uint8_t* results;  // unsigned, of `bytes` each, with slack
    int bytes;                    // 1 or 2
    int count;
};

// What an online softmax keeps of rows from one chunk of keys to the next; see spec/softmax.py.
struct RowStates {
    const std::int32_t* known_sums;    // null: these are the first keys
    const std::int32_t* known_maxima;
    std::int32_t* maxima;
    std::int32_t* shifts;
};

struct Softmax {
    const std::uint8_t* scores;
    std::int64_t scores_stride;
    const std::uint8_t* mask;  // null: none
    std::int64_t mask_stride;
    const std::uint8_t* bias;  // int16, added to the scores; null: none
    std::int64_t bias_stride;
    bool causal;
    std::int64_t diagonal;  // with `causal`: row i may see keys up to i + diagonal
    Scale scale, bias_scale;
    Exponentials exponentials;
    std::uint8_t* destination;
    std::int64_t destination_stride;
    std::int32_t* sums;
    const RowStates* states;  // null: these are all keys
    int keys;
};

// The parameters of a norm, checked; see spec/parameters.py.
struct NormParameters {
    std::vector<std::int32_t> gamma, beta;  // filled up to 16
    std::int64_t epsilon;
    std::int32_t shift;
    Scale copy;
    std::int32_t copy_zero_point;
};

// What a row is normalized with: (width * x - mean) * root, rounded after `shift` bits.
struct RowNorm {
    std::int64_t mean;
    std::int64_t root;
    int shift;
};

struct Norm {
    const std::uint8_t* source;
    std::int64_t source_stride;
    const NormParameters* parameters;
    const RowNorm* rows;
    std::uint8_t* destination;  // null: not wanted
    std::int64_t destination_stride;
    std::uint8_t* copy;  // null: not wanted
    std::int64_t copy_stride;
    int columns;
};

// The vector unit's rotation of pairs of columns: an element times its cosine plus its partner times its sine.
struct Rotation {
    const std::uint8_t* source;
    std::int64_t source_stride;
    Element source_type;  // s8 or s16
    const std::uint8_t* cosines;  // int16, as are the sines
    std::int64_t cosines_stride;
    const std::uint8_t* sines;
    std::int64_t sines_stride;
    Scale scale;
    std::uint8_t* destination;
    std::int64_t destination_stride;
    Element destination_type;  // s8 or s16
    int columns;
    int width;  // the columns that are rotated, from the first on; an even number
    bool half;  // partners are half of them apart; else they are neighbours
};

// For weights of which at most a quarter is kept. They are laid out one after the other: for each vector of columns,
// for each segment of the depth, as many quads as `quads` says.
struct SparseKernels {
    bool (*runs_here)();
    // How many counts of quads there are.
    int (*quad_counts)(int columns, int depth);
    // Counts the quads and returns the size of the layout.
    std::size_t (*count_quads)(const Matrix&, std::uint16_t* quads);
    // Lays a matrix out, and sums its columns (filled up with zeros).
    void (*lay_out)(const Matrix&, const std::uint16_t* quads, std::uint8_t* laid_out, std::int32_t* column_sums);
    // As that of all kernels.
    bool (*multiply_rows)(const Product&, int first, int last);
};

struct Kernels {
    const char* name;
    bool (*runs_here)();
    Layout layout;
    // Lays a matrix out, and sums its columns (filled up with zeros).
    void (*lay_out)(const Matrix&, std::int8_t* laid_out, std::int32_t* column_sums);
    // Copies bytes that lie two apart, the planes of 16-bit elements, to where they lie next to each other.
    void (*copy_every_other_byte)(const std::uint8_t* source, std::uint8_t* destination, int count);
    // Whether all sums with what the accumulators held fit int32.
    bool (*multiply_rows)(const Product&, int first, int last);
    // Whether every source plus its bias fits int32.
    bool (*sums_fit)(const Map&, int first, int last);
    // The same; if not, the result means nothing.
    bool (*map_rows)(const Map&, int first, int last);
    // Whether every sum is in 0..2^31-1; if not, the result means nothing.
    bool (*softmax_rows)(const Softmax&, int first, int last);
    void (*norm_rows)(const Norm&, int first, int last);
    void (*rotate_rows)(const Rotation&, int first, int last);
    // Sum and sum of squares of int16[columns].
    void (*statistics_of_row)(const std::uint8_t* row, int columns, std::int64_t& sum, std::int64_t& squares);
    const SparseKernels* sparse;  // null: none
};

extern const Kernels portable_kernels;
#if defined(__x86_64__)
extern const Kernels avx2_kernels;
extern const Kernels avx512_kernels;
#endif

// The families, fastest first.
const std::vector<const Kernels*>& families();

}  // namespace sta
