// map: the vector unit's pipeline, element by element.

#include <array>

#include "operation.h"
#include "parameters.h"

namespace sta {
namespace {

constexpr int smallest_shared = 2048;  // elements
constexpr std::int64_t int32_limit = std::int64_t{1} << 31;

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

class MapRows : public Operation {
public:
    MapRows(const InstructionDescription& instruction, Shared& shared)
        : source_(instruction.operand("source")),
          destination_(instruction.operand("destination")),
          parameters_(instruction.operand("parameters")),
          source_type_(element_of(instruction, "source_type")),
          destination_type_(element_of(instruction, "destination_type")),
          residual_type_(element_of(instruction, "residual_type")),
          rows_(instruction.number("rows")),
          columns_(instruction.number("columns")),
          has_table_(instruction.number("has_table") != 0),
          per_channel_(instruction.number("per_channel") != 0),
          normalize_(instruction.number("normalize") != 0),
          gather_(instruction.number("gather") != 0),
          multiply_(instruction.number("multiply") != 0),
          cache_(shared.maps(per_channel_ ? columns_ : 1)) {
        if (has_table_) table_ = instruction.operand("table");
        if (residual_type_ != Element::none) residual_ = instruction.operand("residual");
        if (normalize_) sums_ = instruction.operand("sums");
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
        if (normalize_ && !normalize(map, machine.tile(sums_), 0, rows_, machine.rows)) return false;
        // What turns out to be out of range has to be met once more as it was.
        if (direct && !always_fits(*parameters) && !is_apart(machine, destination) && !fits(machine, map)) return false;
        if (!direct) {
            map.destination_stride = destination.row_bytes;
            map.destination = machine.results.take(static_cast<std::size_t>(rows_ * destination.row_bytes));
        }
        if (!run(machine, map)) return false;
        for (int row = 0; !direct && row < rows_; ++row) {
            std::memcpy(destination.bytes + row * destination.stride, map.destination + row * destination.row_bytes,
                        static_cast<std::size_t>(destination.row_bytes));
        }
        if (gather_) {
            map.destination = destination.bytes;
            map.destination_stride = destination.stride;
            add_statistics(machine.statistics(), map, 0, rows_);
        }
        return true;
    }

private:
    const MapParameters* parameters_of(Machine& machine, std::unique_ptr<MapParameters>& own) const {
        const View block = machine.weights(parameters_);
        const int columns = per_channel_ ? columns_ : 1;
        if (block.constant) {
            cache_.read_ahead(block.bytes, parameters_.row_bytes * parameters_.rows);
            if (const MapParameters* known = cache_.find(block.bytes)) return known;
        }
        own = read_map_parameters(block.bytes, columns);
        const std::int64_t size = 12 * (std::int64_t{columns} + 15) + 128;
        if (!own || !block.constant || !cache_.has_room(size)) return own.get();
        return cache_.keep(block.bytes, std::move(own), size);
    }

    Map described(Machine& machine, const Tile& destination, const MapParameters& parameters) const {
        const Tile source = machine.tile(source_);
        Map map{};
        map.source = source.bytes;
        map.source_stride = source.stride;
        map.source_type = source_type_;
        map.parameters = &parameters;
        map.per_channel = per_channel_;
        if (has_table_) map.table = reinterpret_cast<const std::int16_t*>(machine.weights(table_).bytes);
        if (residual_type_ != Element::none) {
            const Tile residual = machine.tile(residual_);
            map.residual = residual.bytes;
            map.residual_stride = residual.stride;
        }
        map.residual_type = residual_type_;
        map.multiply = multiply_;
        map.destination = destination.bytes;
        map.destination_stride = destination.stride;
        map.destination_type = destination_type_;
        map.columns = columns_;
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
        switch (source_type_) {
            case Element::wide: return true;
            case Element::s32: return parameters.largest_bias == 0;
            default: return parameters.largest_bias < int32_limit - (1 << 15);
        }
    }

    bool may_be_replaced(Machine& machine, const Tile& destination) const {
        const int bytes = element_bytes(destination_type_);
        if (source_.space == Space::spad &&
            !destination.may_replace(machine.tile(source_), element_bytes(source_type_) == bytes)) {
            return false;
        }
        return residual_type_ == Element::none ||
               destination.may_replace(machine.tile(residual_), element_bytes(residual_type_) == bytes);
    }

    // Whether nothing that is read is overwritten.
    bool is_apart(Machine& machine, const Tile& destination) const {
        if (source_.space == Space::spad && !destination.apart_from(machine.tile(source_))) return false;
        return residual_type_ == Element::none || destination.apart_from(machine.tile(residual_));
    }

    bool fits(Machine& machine, const Map& map) const {
        return share(machine, map, machine.kernels.sums_fit);
    }

    // False if that is not possible, because something that it reads may change; then nothing has happened.
    bool run_ahead(Machine& machine, const Map& map, const Tile& destination) const {
        if ((normalize_ && gather_) || (has_table_ && !machine.weights(table_).constant)) return false;
        std::array<SharedRows, 4> touched{destination.written_by_rows(), machine.tile(source_).read_by_rows()};
        std::size_t count = 2;
        const auto touch = [&](const SharedRows& rows) { touched[count++] = rows; };
        if (residual_type_ != Element::none) touch(machine.tile(residual_).read_by_rows());
        if (gather_) touch(machine.statistics().written_by_rows());
        const auto all = [&] { return std::span(touched).first(count); };
        // The machine itself is the caller's: its lines of cache had better not be asked for.
        const auto kernel = machine.kernels.map;
        if (normalize_) {
            const Tile sums = machine.tile(sums_);
            touch({sums.bytes, 4, 4, false});
            return machine.team.run_ahead(rows_, all(), [kernel, map, sums](int first, int last) {
                thread_local Scratch scratch;
                Map its = map;
                return normalize(its, sums, first, last, scratch) && kernel(its, first, last);
            });
        }
        if (gather_) {
            const auto work = [kernel, map, statistics = machine.statistics()](int first, int last) {
                if (!kernel(map, first, last)) return false;
                add_statistics(statistics, map, first, last);
                return true;
            };
            return machine.team.run_ahead(rows_, all(), work);
        }
        return machine.team.run_ahead(rows_, all(),
                                      [kernel, map](int first, int last) { return kernel(map, first, last); });
    }

    bool run(Machine& machine, const Map& map) const {
        if (rows_ * columns_ < smallest_shared) return machine.kernels.map(map, 0, rows_);
        return share(machine, map, machine.kernels.map);
    }

    bool share(Machine& machine, const Map& map, bool (*kernel)(const Map&, int, int)) const {
        return machine.team.share(rows_, [map, kernel](int first, int last) { return kernel(map, first, last); });
    }

    Operand source_, destination_, parameters_, table_, residual_, sums_;
    Element source_type_, destination_type_, residual_type_;
    int rows_, columns_;
    bool has_table_, per_channel_, normalize_, gather_, multiply_;
    MapCache& cache_;
};

}  // namespace

std::unique_ptr<Operation> make_map(const InstructionDescription& instruction, Shared& shared) {
    return std::make_unique<MapRows>(instruction, shared);
}

}  // namespace sta
