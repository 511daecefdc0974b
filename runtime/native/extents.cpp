#include "extents.h"

#include "operation.h"
#include "weights.h"

namespace sta {
namespace {

// Fields are narrower; products of any two sizes fit int.
constexpr std::int64_t largest_size = (1 << 14) - 1;
constexpr std::int64_t largest_row_bytes = (1 << 20) - 1;
constexpr std::int64_t largest_m = 32;
constexpr std::int64_t word = 4;
constexpr std::int64_t parameter_header = 32;
constexpr std::int64_t softmax_parameters = 16;
constexpr std::int64_t table_bytes = 2 * 513;

const std::vector<Space> in_dram = {Space::constants, Space::writable};

[[noreturn]] void refuse(const InstructionDescription& instruction, const std::string& what) {
    throw BadDescription("instruction " + std::to_string(instruction.pc) + " (" + instruction.kind + "): " + what);
}

std::int64_t size(const InstructionDescription& instruction, const std::string& name,
                  std::int64_t largest = largest_size) {
    const std::int64_t value = instruction.number(name);
    if (value < 1 || value > largest) refuse(instruction, "'" + name + "' is out of range");
    return value;
}

std::vector<Extent> load(const InstructionDescription& instruction) {
    const std::int64_t rows = size(instruction, "rows");
    const std::int64_t row_bytes = size(instruction, "row_bytes", largest_row_bytes);
    const Space space = instruction.choice("space") == "wbuf" ? Space::wbuf : Space::spad;
    return {{"dram", in_dram, rows, row_bytes, Rows::anyhow}, {"sram", {space}, rows, row_bytes, Rows::apart}};
}

std::vector<Extent> store(const InstructionDescription& instruction) {
    const std::int64_t rows = size(instruction, "rows");
    const std::int64_t row_bytes = size(instruction, "row_bytes", largest_row_bytes);
    return {{"dram", {Space::writable}, rows, row_bytes, Rows::apart},
            {"sram", {Space::spad}, rows, row_bytes, Rows::anyhow}};
}

std::vector<Extent> gather(const InstructionDescription& instruction) {
    const std::int64_t rows = size(instruction, "rows");
    const std::int64_t row_bytes = size(instruction, "row_bytes", largest_row_bytes);
    return {{"table", in_dram, 1, row_bytes, Rows::anyhow},
            {"indices", {Space::spad}, 1, word * rows, Rows::anyhow},
            {"destination", {Space::spad}, rows, row_bytes, Rows::apart}};
}

std::int64_t block_bytes(const InstructionDescription& instruction, std::int64_t columns, std::int64_t depth) {
    const std::int64_t m = size(instruction, "m", largest_m), n = size(instruction, "n", m);
    return packed_size({static_cast<int>(columns), static_cast<int>(depth), static_cast<int>(n), static_cast<int>(m),
                        encoding_called(instruction.choice("encoding"))});
}

std::vector<Extent> mm(const InstructionDescription& instruction) {
    const std::int64_t rows = size(instruction, "rows"), columns = size(instruction, "columns");
    const std::int64_t depth = size(instruction, "depth");
    const std::int64_t a_bytes = instruction.number("a_wide") ? 2 * depth - 1 : depth;
    Extent b{"b", {Space::wbuf}, 1, 0, Rows::adjacent};
    if (instruction.choice("b_space") == "wbuf") {
        b.row_bytes = block_bytes(instruction, columns, depth);
    } else {
        const bool transposed = instruction.number("b_transposed") != 0;
        b = {"b", {Space::spad}, transposed ? depth : columns, transposed ? columns : depth, Rows::anyhow};
    }
    return {{"a", {Space::spad}, rows, a_bytes, Rows::anyhow},
            b,
            {"acc", {Space::acc}, rows, word * columns, Rows::apart}};
}

std::vector<Extent> softmax(const InstructionDescription& instruction) {
    const std::int64_t rows = size(instruction, "rows"), keys = size(instruction, "keys");
    const std::string& mode = instruction.choice("mode");
    const std::int64_t exponential_bytes = instruction.choice("p_bits") == "8" ? 1 : 2;
    std::vector<Extent> extents = {{"scores", {Space::acc}, rows, word * keys, Rows::anyhow},
                                   {"parameters", {Space::wbuf}, 1, softmax_parameters, Rows::adjacent},
                                   {"destination", {Space::spad}, rows, exponential_bytes * keys, Rows::apart},
                                   {"sums", {Space::spad}, mode == "row" ? 1 : 3, word * rows, Rows::adjacent}};
    if (mode == "online") extents.push_back({"state", {Space::spad}, 2, word * rows, Rows::adjacent});
    if (instruction.number("has_mask")) extents.push_back({"mask", {Space::spad}, rows, keys, Rows::anyhow});
    return extents;
}

std::int64_t map_parameters(std::int64_t channels) {
    return parameter_header + 8 * channels + (channels + 3) / 4 * 4;
}

std::vector<Extent> map(const InstructionDescription& instruction) {
    const std::int64_t rows = size(instruction, "rows"), columns = size(instruction, "columns");
    const Element source = element_of(instruction, "source_type"), residual = element_of(instruction, "residual_type");
    const Element destination = element_of(instruction, "destination_type");
    const bool from_acc = instruction.choice("source_type").starts_with("acc");
    const std::int64_t channels = instruction.number("per_channel") ? columns : 1;
    if (instruction.number("gather") && destination != Element::s16) refuse(instruction, "statistics of no s16");
    const std::int64_t source_columns = source == Element::wide ? 2 * columns : columns;
    std::vector<Extent> extents = {
        {"source", {from_acc ? Space::acc : Space::spad}, rows, element_bytes(source) * source_columns, Rows::anyhow},
        {"parameters", {Space::wbuf}, 1, map_parameters(channels), Rows::adjacent},
        {"destination", {Space::spad}, rows, element_bytes(destination) * columns, Rows::apart}};
    if (instruction.number("has_table")) extents.push_back({"table", {Space::wbuf}, 1, table_bytes, Rows::adjacent});
    if (residual != Element::none) {
        extents.push_back({"residual", {Space::spad}, rows, element_bytes(residual) * columns, Rows::anyhow});
    }
    if (instruction.number("normalize")) extents.push_back({"sums", {Space::spad}, 1, word * rows, Rows::adjacent});
    return extents;
}

std::vector<Extent> norm(const InstructionDescription& instruction) {
    const std::int64_t rows = size(instruction, "rows"), columns = size(instruction, "columns");
    const std::string& outputs = instruction.choice("outputs");
    std::vector<Extent> extents = {{"source", {Space::spad}, rows, 2 * columns, Rows::anyhow},
                                   {"parameters", {Space::wbuf}, 1, parameter_header + 8 * columns, Rows::adjacent}};
    if (outputs != "copy") extents.push_back({"destination", {Space::spad}, rows, 2 * columns, Rows::apart});
    if (outputs != "destination") extents.push_back({"copy", {Space::spad}, rows, columns, Rows::apart});
    return extents;
}

std::vector<Extent> rescale(const InstructionDescription& instruction) {
    const std::int64_t rows = size(instruction, "rows"), columns = size(instruction, "columns");
    return {{"shifts", {Space::spad}, 1, word * rows, Rows::adjacent},
            {"acc", {Space::acc}, rows, word * columns, Rows::apart}};
}

}  // namespace

std::vector<Extent> extents_of(const InstructionDescription& instruction) {
    const std::string& kind = instruction.kind;
    if (kind == "loop" || kind == "end" || kind == "halt" || kind == "fence" || kind == "sync") return {};
    if (kind == "ld") return load(instruction);
    if (kind == "st") return store(instruction);
    if (kind == "gather") return gather(instruction);
    if (kind == "mm") return mm(instruction);
    if (kind == "softmax") return softmax(instruction);
    if (kind == "map") return map(instruction);
    if (kind == "norm") return norm(instruction);
    if (kind == "rescale") return rescale(instruction);
    refuse(instruction, "there is no such instruction");
}

}  // namespace sta
