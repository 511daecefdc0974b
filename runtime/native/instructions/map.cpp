// map: the vector unit's pipeline, element by element.

#include <algorithm>
#include <array>
#include <cstring>

#include "instructions/instruction.h"
#include "instructions/parameters.h"

namespace sta {
namespace {

constexpr std::int64_t int32_limit = std::int64_t{1} << 31;

constexpr std::int64_t table_bytes = 2 * 513;

struct Source {
    Element element;
    Space space;
};

struct Fields {
    explicit Fields(const InstructionDescription& instruction)
        : rows(size_field(instruction, "rows")),
          columns(size_field(instruction, "columns")),
          source(choice_field<Source>(instruction, "source_type",
                                      {{"acc", {Element::s32, Space::acc}},
                                       {"acc_wide", {Element::wide, Space::acc}},
                                       {"s32", {Element::s32, Space::spad}},
                                       {"s16", {Element::s16, Space::spad}},
                                       {"s8", {Element::s8, Space::spad}},
                                       {"u8", {Element::u8, Space::spad}}})),
          destination_type(choice_field<Element>(
              instruction, "destination_type",
              {{"s8", Element::s8}, {"u8", Element::u8}, {"s16", Element::s16}, {"s32", Element::s32}})),
          residual_type(choice_field<Element>(
              instruction, "residual_type",
              {{"none", Element::none}, {"s8", Element::s8}, {"s16", Element::s16}, {"s32", Element::s32}})),
          has_table(instruction.flag("has_table")),
          per_channel(instruction.flag("per_channel")),
          normalize(instruction.flag("normalize")),
          statistics(instruction.flag("statistics")),
          combine(choice_field<Combination>(instruction, "combine",
                                            {{"add", Combination::add},
                                             {"multiply", Combination::multiply},
                                             {"subtract", Combination::subtract},
                                             {"subtract_from", Combination::subtract_from},
                                             {"maximum", Combination::maximum},
                                             {"minimum", Combination::minimum}})),
          residual_column(instruction.flag("residual_column")) {
        if (statistics && destination_type != Element::s16) instruction.refuse("statistics of no s16");
    }

    bool has_residual() const { return residual_type != Element::none; }
    // How many biases, multipliers and shifts there are.
    int channels() const { return per_channel ? columns : 1; }

    int rows, columns;
    Source source;
    Element destination_type, residual_type;
    bool has_table, per_channel, normalize, statistics;
    Combination combine;
    bool residual_column;
};

std::int64_t parameter_bytes(std::int64_t channels) {
    return parameter_header + 8 * channels + (channels + 3) / 4 * 4;
}

std::vector<Extent> extents(const InstructionDescription& instruction) {
    const Fields fields(instruction);
    const auto row_bytes = [&fields](Element element) { return std::int64_t{element_bytes(element)} * fields.columns; };
    std::vector<Extent> all = {
        {.name = "source",
         .spaces = {fields.source.space},
         .rows = fields.rows,
         .row_bytes = row_bytes(fields.source.element)},
        {.name = "parameters",
         .spaces = {Space::wbuf},
         .rows = 1,
         .row_bytes = parameter_bytes(fields.channels()),
         .lie = Rows::adjacent}};
    if (fields.has_table) {
        all.push_back(
            {.name = "table", .spaces = {Space::wbuf}, .rows = 1, .row_bytes = table_bytes, .lie = Rows::adjacent});
    }
    if (fields.has_residual()) {
        all.push_back({.name = "residual",
                       .spaces = {Space::spad},
                       .rows = fields.rows,
                       .row_bytes = fields.residual_column ? element_bytes(fields.residual_type)
                                                           : row_bytes(fields.residual_type)});
    }
    if (fields.normalize) {
        all.push_back({.name = "sums",
                       .spaces = {Space::spad},
                       .rows = 1,
                       .row_bytes = word * fields.rows,
                       .lie = Rows::adjacent});
    }
    all.push_back({.name = "destination",
                   .spaces = {Space::spad},
                   .rows = fields.rows,
                   .row_bytes = row_bytes(fields.destination_type),
                   .lie = Rows::apart,
                   .writes = true});
    return all;
}

std::int64_t magnitude(std::int64_t value) {
    return value < 0 ? -value : value;
}

// No int32 that is rescaled gets larger than this.
std::int64_t largest_result(Scale scale) {
    const std::int64_t largest = std::int64_t{1} << std::min(31, scale.shift - 1);
    return ((largest * scale.multiplier) >> scale.shift) + 1;
}

// Null: a value is outside its field.
std::unique_ptr<MapParameters> read_parameters(const std::uint8_t* block, int columns) {
    auto parameters = std::make_unique<MapParameters>();
    parameters->table = read_scale(block, 0);
    parameters->residual_bias = read_value<std::int32_t>(block, 8);
    parameters->residual = read_scale(block, 12);
    parameters->zero_point = read_value<std::int32_t>(block, 20);
    if (!is_scale(parameters->table) || !is_scale(parameters->residual)) return nullptr;
    const std::uint8_t* arrays = block + parameter_header;
    parameters->bias = read_words(arrays, columns);
    parameters->multiplier = read_words(arrays + 4 * columns, columns);
    // What fills the shifts up must be a shift, too.
    parameters->shift.assign(parameters->bias.size(), 2);
    parameters->largest_result = parameters->largest_bias = 0;
    for (int column = 0; column < columns; ++column) {
        const auto index = static_cast<std::size_t>(column);
        parameters->shift[index] = read_value<std::int8_t>(arrays, 8 * columns + column);
        const Scale scale{parameters->multiplier[index], parameters->shift[index]};
        if (!is_scale(scale)) return nullptr;
        parameters->largest_result = std::max(parameters->largest_result, largest_result(scale));
        parameters->largest_bias = std::max(parameters->largest_bias, magnitude(parameters->bias[index]));
    }
    return parameters;
}

int bit_length(std::int64_t value) {
    return value ? 64 - __builtin_clzll(static_cast<unsigned long long>(value)) : 0;
}

// What a row of sum > 0 is rescaled by instead: scale / sum; see `normalize` in spec/softmax.py.
Scale divided(Scale scale, std::int64_t sum) {
    const int length = bit_length(sum);
    const std::int64_t reciprocal = std::min(((std::int64_t{1} << (31 + length)) + sum) / (2 * sum), int32_limit - 1);
    const std::int64_t multiplier = (scale.multiplier * reciprocal + (std::int64_t{1} << 30)) >> 31;
    return {static_cast<std::int32_t>(multiplier), scale.shift + length - 1};
}

void add_statistics(const Statistics& statistics, const Map& map, int first, int last) {
    for (int row = first; row < last; ++row) {
        std::int64_t sum, squares;
        statistics.of_row(map.destination + row * map.destination_stride, map.columns, sum, squares);
        statistics.sums[row] += sum;
        statistics.squares[row] += squares;
    }
}

class MapRows : public DecodedInstruction {
public:
    MapRows(const InstructionDescription& instruction, Shared& shared)
        : source_(instruction.operand("source")),
          destination_(instruction.operand("destination")),
          parameters_(instruction.operand("parameters")),
          fields_(instruction),
          cache_(shared.cache<MapParameters>({fields_.channels()})) {
        if (fields_.statistics && fields_.rows > shared.tile_rows) instruction.refuse("more rows than have statistics");
        if (fields_.has_table) table_ = instruction.operand("table");
        if (fields_.has_residual()) residual_ = instruction.operand("residual");
        if (fields_.normalize) sums_ = instruction.operand("sums");
    }

    bool runs_ahead() const override { return true; }

    bool execute(Machine& machine) const override {
        std::unique_ptr<MapParameters> own;
        const MapParameters* parameters = parameters_of(machine, own);
        if (!parameters) return false;
        const Tile destination = machine.tile(destination_);
        Map map = described(machine, destination, *parameters);
        const bool direct = may_be_replaced(machine, destination);
        if (machine.goes_ahead && direct && !own && run_ahead(machine, map, destination)) return true;
        if (!machine.settle()) return false;
        if (fields_.normalize && !normalize(map, machine.tile(sums_), 0, fields_.rows, machine.rows)) return false;
        // What turns out to be out of range has to be met once more as it was.
        if (direct && !always_fits(*parameters) && !is_apart(machine, destination) && !fits(machine, map)) return false;
        const Tile result = direct ? destination : destination.aside(machine.results);
        map.destination = result.bytes;
        map.destination_stride = result.stride;
        if (!run(machine, map)) return false;
        if (!direct) result.copy_to(destination);
        if (fields_.statistics) {
            map.destination = destination.bytes;
            map.destination_stride = destination.stride;
            add_statistics(machine.statistics(), map, 0, fields_.rows);
        }
        return true;
    }

private:
    const MapParameters* parameters_of(Machine& machine, std::unique_ptr<MapParameters>& own) const {
        const View block = machine.weights(parameters_);
        if (block.constant) cache_.read_ahead(block.bytes, parameters_.row_bytes);
        const std::int64_t size = 12 * (std::int64_t{fields_.channels()} + 15) + 128;
        return find_parameters(block, cache_, size, own,
                               [this](const std::uint8_t* bytes) { return read_parameters(bytes, fields_.channels()); });
    }

    Map described(Machine& machine, const Tile& destination, const MapParameters& parameters) const {
        const Tile source = machine.tile(source_);
        Map map{};
        map.source = source.bytes;
        map.source_stride = source.stride;
        map.source_type = fields_.source.element;
        map.parameters = &parameters;
        map.per_channel = fields_.per_channel;
        if (fields_.has_table) map.table = reinterpret_cast<const std::int16_t*>(machine.weights(table_).bytes);
        if (fields_.has_residual()) {
            const Tile residual = machine.tile(residual_);
            map.residual = residual.bytes;
            map.residual_stride = residual.stride;
        }
        map.residual_type = fields_.residual_type;
        map.residual_column = fields_.residual_column;
        map.combine = fields_.combine;
        map.destination = destination.bytes;
        map.destination_stride = destination.stride;
        map.destination_type = fields_.destination_type;
        map.columns = fields_.columns;
        return map;
    }

    // Finds the scales of some rows, for which there is scratch; false if a sum or a shift is out of range.
    static bool normalize(Map& map, const Tile& sums, int first, int last, Scratch& scratch) {
        const Scale scale{map.parameters->multiplier[0], map.parameters->shift[0]};
        const auto count = static_cast<std::size_t>(last);
        auto* scales = reinterpret_cast<Scale*>(scratch.take((sizeof(Scale) + 1) * count));
        auto* empty = reinterpret_cast<std::uint8_t*>(scales + count);
        for (int row = first; row < last; ++row) {
            std::int32_t sum;
            std::memcpy(&sum, sums.bytes + 4 * row, 4);
            if (sum < 0) return false;
            empty[row] = sum == 0;
            scales[row] = divided(scale, sum ? sum : 1);
            if (scales[row].shift > 62) return false;
        }
        map.rows = scales;
        map.empty = empty;
        return true;
    }

    // Whether no source plus its bias can leave int32.
    bool always_fits(const MapParameters& parameters) const {
        switch (fields_.source.element) {
            case Element::wide: return true;
            case Element::s32: return parameters.largest_bias == 0;
            default: return parameters.largest_bias < int32_limit - (1 << 15);
        }
    }

    bool may_be_replaced(Machine& machine, const Tile& destination) const {
        const int bytes = element_bytes(fields_.destination_type);
        if (source_.space == Space::spad &&
            !destination.may_replace(machine.tile(source_), element_bytes(fields_.source.element) == bytes)) {
            return false;
        }
        const bool by_element = !fields_.residual_column && element_bytes(fields_.residual_type) == bytes;
        return !fields_.has_residual() || destination.may_replace(machine.tile(residual_), by_element);
    }

    // Whether nothing that is read is overwritten.
    bool is_apart(Machine& machine, const Tile& destination) const {
        if (source_.space == Space::spad && !destination.apart_from(machine.tile(source_))) return false;
        return !fields_.has_residual() || destination.apart_from(machine.tile(residual_));
    }

    bool fits(Machine& machine, const Map& map) const {
        return share(machine, map, machine.kernels.sums_fit);
    }

    // False if that is not possible, because something that it reads may change; then nothing has happened.
    bool run_ahead(Machine& machine, const Map& map, const Tile& destination) const {
        if ((fields_.normalize && fields_.statistics) || (fields_.has_table && !machine.weights(table_).constant)) return false;
        std::array<SharedRows, 4> touched{destination.written_by_rows(), machine.tile(source_).read_by_rows()};
        std::size_t count = 2;
        const auto touch = [&](const SharedRows& rows) { touched[count++] = rows; };
        if (fields_.has_residual()) touch(machine.tile(residual_).read_by_rows());
        if (fields_.statistics) touch(machine.statistics().written_by_rows());
        const auto all = [&] { return std::span(touched).first(count); };
        // The machine itself is the caller's: its lines of cache had better not be asked for.
        const auto kernel = machine.kernels.map_rows;
        if (fields_.normalize) {
            const Tile sums = machine.tile(sums_);
            touch({sums.bytes, 4, 4, false});
            return machine.team.run_ahead(fields_.rows, all(), [kernel, map, sums](int first, int last) {
                thread_local Scratch scratch;
                Map its = map;
                return normalize(its, sums, first, last, scratch) && kernel(its, first, last);
            });
        }
        if (fields_.statistics) {
            const auto work = [kernel, map, statistics = machine.statistics()](int first, int last) {
                if (!kernel(map, first, last)) return false;
                add_statistics(statistics, map, first, last);
                return true;
            };
            return machine.team.run_ahead(fields_.rows, all(), work);
        }
        return machine.team.run_ahead(fields_.rows, all(),
                                      [kernel, map](int first, int last) { return kernel(map, first, last); });
    }

    bool run(Machine& machine, const Map& map) const {
        if (fields_.rows * fields_.columns < smallest_shared) return machine.kernels.map_rows(map, 0, fields_.rows);
        return share(machine, map, machine.kernels.map_rows);
    }

    bool share(Machine& machine, const Map& map, bool (*kernel)(const Map&, int, int)) const {
        return machine.team.share(fields_.rows, [map, kernel](int first, int last) { return kernel(map, first, last); });
    }

    Operand source_, destination_, parameters_, table_, residual_, sums_;
    Fields fields_;
    Cache<MapParameters>& cache_;
};

std::unique_ptr<DecodedInstruction> make(const InstructionDescription& instruction, Shared& shared) {
    return std::make_unique<MapRows>(instruction, shared);
}

const InstructionType type{"map", extents, make};
const Registration registration(type);

}  // namespace
}  // namespace sta
