#include "parameters.h"

#include <algorithm>
#include <cstring>

namespace sta {
namespace {

constexpr std::int64_t header_bytes = 32;
constexpr std::int64_t epsilon_limit = std::int64_t{1} << 61;
// Kernels read whole vectors.
constexpr std::size_t vector_lanes = 16;

template <typename T>
T read(const std::uint8_t* block, std::int64_t offset) {
    T value;
    std::memcpy(&value, block + offset, sizeof(T));
    return value;
}

std::vector<std::int32_t> read_words(const std::uint8_t* words, int count) {
    const auto size = static_cast<std::size_t>(count);
    std::vector<std::int32_t> values((size + vector_lanes - 1) / vector_lanes * vector_lanes);
    std::memcpy(values.data(), words, 4 * size);
    return values;
}

Scale read_scale(const std::uint8_t* block, std::int64_t offset) {
    return {read<std::int32_t>(block, offset), read<std::int32_t>(block, offset + 4)};
}

std::int64_t magnitude(std::int64_t value) {
    return value < 0 ? -value : value;
}

// No int32 that is rescaled gets larger than this.
std::int64_t largest_result(Scale scale) {
    const std::int64_t largest = std::int64_t{1} << std::min(31, scale.shift - 1);
    return ((largest * scale.multiplier) >> scale.shift) + 1;
}

}  // namespace

bool is_scale(Scale scale) {
    return scale.multiplier >= 0 && 2 <= scale.shift && scale.shift <= 62;
}

std::unique_ptr<MapParameters> read_map_parameters(const std::uint8_t* block, int columns) {
    auto parameters = std::make_unique<MapParameters>();
    parameters->table = read_scale(block, 0);
    parameters->residual_bias = read<std::int32_t>(block, 8);
    parameters->residual = read_scale(block, 12);
    parameters->zero_point = read<std::int32_t>(block, 20);
    if (!is_scale(parameters->table) || !is_scale(parameters->residual)) return nullptr;
    const std::uint8_t* arrays = block + header_bytes;
    parameters->bias = read_words(arrays, columns);
    parameters->multiplier = read_words(arrays + 4 * columns, columns);
    // What fills the shifts up must be a shift, too.
    parameters->shift.assign(parameters->bias.size(), 2);
    parameters->largest_result = parameters->largest_bias = 0;
    for (int column = 0; column < columns; ++column) {
        const auto index = static_cast<std::size_t>(column);
        parameters->shift[index] = read<std::int8_t>(arrays, 8 * columns + column);
        const Scale scale{parameters->multiplier[index], parameters->shift[index]};
        if (!is_scale(scale)) return nullptr;
        parameters->largest_result = std::max(parameters->largest_result, largest_result(scale));
        parameters->largest_bias = std::max(parameters->largest_bias, magnitude(parameters->bias[index]));
    }
    return parameters;
}

std::unique_ptr<NormParameters> read_norm_parameters(const std::uint8_t* block, int columns) {
    auto parameters = std::make_unique<NormParameters>();
    parameters->epsilon = read<std::int64_t>(block, 0);
    parameters->shift = read<std::int32_t>(block, 8);
    parameters->copy = read_scale(block, 12);
    parameters->copy_zero_point = read<std::int32_t>(block, 20);
    if (parameters->epsilon < 1 || parameters->epsilon >= epsilon_limit) return nullptr;
    if (parameters->shift < 0 || parameters->shift > 63 || !is_scale(parameters->copy)) return nullptr;
    parameters->gamma = read_words(block + header_bytes, columns);
    parameters->beta = read_words(block + header_bytes + 4 * columns, columns);
    return parameters;
}

bool read_softmax_parameters(const std::uint8_t* block, Scale& scale) {
    scale = read_scale(block, 0);
    return is_scale(scale);
}

}  // namespace sta
