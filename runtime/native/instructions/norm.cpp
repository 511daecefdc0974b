// norm: LayerNorm and RMSNorm of rows.

#include <algorithm>
#include <array>
#include <cmath>

#include "instructions/instruction.h"
#include "instructions/parameters.h"

namespace sta {
namespace {

constexpr int extra_fraction_bits = 10;
constexpr std::int64_t epsilon_limit = std::int64_t{1} << 61;

struct Outputs {
    bool destination, copy;
};

struct Fields {
    explicit Fields(const InstructionDescription& instruction)
        : rows(size_field(instruction, "rows")),
          columns(size_field(instruction, "columns")),
          centred(choice_field<bool>(instruction, "kind", {{"layer", true}, {"rms", false}})),
          outputs(choice_field<Outputs>(
              instruction, "outputs",
              {{"destination", {true, false}}, {"copy", {false, true}}, {"both", {true, true}}})),
          statistics(instruction.flag("statistics")) {}

    int rows, columns;
    bool centred;
    Outputs outputs;
    bool statistics;
};

std::vector<Extent> extents(const InstructionDescription& instruction) {
    const Fields fields(instruction);
    const std::int64_t row_bytes = 2 * std::int64_t{fields.columns};
    std::vector<Extent> all = {
        {.name = "source", .spaces = {Space::spad}, .rows = fields.rows, .row_bytes = row_bytes},
        {.name = "parameters",
         .spaces = {Space::wbuf},
         .rows = 1,
         .row_bytes = parameter_header + 8 * std::int64_t{fields.columns},
         .lie = Rows::adjacent}};
    if (fields.outputs.destination) {
        all.push_back({.name = "destination",
                       .spaces = {Space::spad},
                       .rows = fields.rows,
                       .row_bytes = row_bytes,
                       .lie = Rows::apart,
                       .writes = true});
    }
    if (fields.outputs.copy) {
        all.push_back({.name = "copy",
                       .spaces = {Space::spad},
                       .rows = fields.rows,
                       .row_bytes = fields.columns,
                       .lie = Rows::apart,
                       .writes = true});
    }
    return all;
}

// Null: a value is outside its field.
std::unique_ptr<NormParameters> read_parameters(const std::uint8_t* block, int columns) {
    auto parameters = std::make_unique<NormParameters>();
    parameters->epsilon = read_value<std::int64_t>(block, 0);
    parameters->shift = read_value<std::int32_t>(block, 8);
    parameters->copy = read_scale(block, 12);
    parameters->copy_zero_point = read_value<std::int32_t>(block, 20);
    if (parameters->epsilon < 1 || parameters->epsilon >= epsilon_limit) return nullptr;
    if (parameters->shift < 0 || parameters->shift > 63 || !is_scale(parameters->copy)) return nullptr;
    parameters->gamma = read_words(block + parameter_header, columns);
    parameters->beta = read_words(block + parameter_header + 4 * columns, columns);
    return parameters;
}

std::int64_t integer_root(std::uint64_t value) {
    auto root = static_cast<std::uint64_t>(std::sqrt(static_cast<double>(value)));
    while (root * root > value) --root;
    while ((root + 1) * (root + 1) <= value) ++root;
    return static_cast<std::int64_t>(root);
}

class NormRows : public DecodedInstruction {
public:
    NormRows(const InstructionDescription& instruction, Shared& shared)
        : source_(instruction.operand("source")),
          parameters_(instruction.operand("parameters")),
          fields_(instruction),
          cache_(shared.cache<NormParameters>({fields_.columns})) {
        if (fields_.statistics && fields_.rows > shared.tile_rows) instruction.refuse("more rows than have statistics");
        if (fields_.outputs.destination) destination_ = instruction.operand("destination");
        if (fields_.outputs.copy) copy_ = instruction.operand("copy");
    }

    bool execute(Machine& machine) const override {
        std::unique_ptr<NormParameters> own;
        const NormParameters* parameters = parameters_of(machine, own);
        if (!parameters) return false;
        const Tile source = machine.tile(source_);
        Norm norm{};
        norm.source = source.bytes;
        norm.source_stride = source.stride;
        norm.parameters = parameters;
        norm.columns = fields_.columns;
        const Tile destination = fields_.outputs.destination ? machine.tile(destination_) : Tile{};
        const Tile copy = fields_.outputs.copy ? machine.tile(copy_) : Tile{};
        const bool direct = (!fields_.outputs.destination || destination.may_replace(source, true)) &&
                            (!fields_.outputs.copy || copy.apart_from(source)) &&
                            (!fields_.outputs.destination || !fields_.outputs.copy || destination.apart_from(copy));
        const auto to = [&norm](const Tile& result, const Tile& narrow) {
            norm.destination = result.bytes;
            norm.destination_stride = result.stride;
            norm.copy = narrow.bytes;
            norm.copy_stride = narrow.stride;
        };
        to(destination, copy);
        if (machine.goes_ahead && direct && !own && run_ahead(machine, norm, source, destination, copy)) return true;
        if (!machine.settle()) return false;
        auto* rows = reinterpret_cast<RowNorm*>(machine.rows.take(sizeof(RowNorm) * static_cast<std::size_t>(fields_.rows)));
        if (!find_all_rows(machine, norm, rows)) return false;
        norm.rows = rows;
        const Tile result = fields_.outputs.destination && !direct ? destination.aside(machine.results) : destination;
        const Tile narrow = fields_.outputs.copy && !direct ? copy.aside(machine.copies) : copy;
        to(result, narrow);
        run(machine, norm);
        if (!direct && fields_.outputs.destination) result.copy_to(destination);
        if (!direct && fields_.outputs.copy) narrow.copy_to(copy);
        return true;
    }

    bool runs_ahead() const override { return true; }

private:
    const NormParameters* parameters_of(Machine& machine, std::unique_ptr<NormParameters>& own) const {
        const View block = machine.weights(parameters_);
        const std::int64_t size = 8 * (std::int64_t{fields_.columns} + 15) + 128;
        return find_parameters(block, cache_, size, own,
                               [this](const std::uint8_t* bytes) { return read_parameters(bytes, fields_.columns); });
    }

    // Finds what some rows are normalized with; false if the row statistics are not those of such a row.
    bool find_rows(const Statistics& statistics, const Norm& norm, int first, int last, RowNorm* rows) const {
        bool possible = true;
        for (int row = first; row < last; ++row) {
            std::int64_t sum, squares;
            if (fields_.statistics) {
                sum = statistics.sums[row];
                squares = statistics.squares[row];
            } else {
                statistics.of_row(norm.source + row * norm.source_stride, fields_.columns, sum, squares);
            }
            possible = find_row(sum, squares, norm.parameters->epsilon, rows[row]) && possible;
        }
        return possible;
    }

    // The row statistics have been taken.
    void clear(const Statistics& statistics, int first, int last) const {
        if (!fields_.statistics) return;
        std::fill(statistics.sums + first, statistics.sums + last, 0);
        std::fill(statistics.squares + first, statistics.squares + last, 0);
    }

    bool find_all_rows(Machine& machine, const Norm& norm, RowNorm* rows) const {
        const auto find = [this, its = machine.statistics(), norm, rows](int first, int last) {
            return find_rows(its, norm, first, last, rows);
        };
        if (!(fields_.rows * fields_.columns < smallest_shared ? find(0, fields_.rows) : machine.team.share(fields_.rows, find))) return false;
        clear(machine.statistics(), 0, fields_.rows);
        return true;
    }

    // False if that is not possible; then nothing has happened.
    bool run_ahead(Machine& machine, const Norm& norm, const Tile& source, const Tile& destination,
                   const Tile& copy) const {
        std::array<SharedRows, 4> touched{source.read_by_rows()};
        std::size_t count = 1;
        if (fields_.outputs.destination) touched[count++] = destination.written_by_rows();
        if (fields_.outputs.copy) touched[count++] = copy.written_by_rows();
        if (fields_.statistics) touched[count++] = machine.statistics().written_by_rows();
        const auto work = [this, its = machine.statistics(), norm, kernel = machine.kernels.norm_rows](int first, int last) {
            thread_local Scratch scratch;
            auto* rows = reinterpret_cast<RowNorm*>(scratch.take(sizeof(RowNorm) * static_cast<std::size_t>(last)));
            if (!find_rows(its, norm, first, last, rows)) return false;
            clear(its, first, last);
            Norm with_rows = norm;
            with_rows.rows = rows;
            kernel(with_rows, first, last);
            return true;
        };
        return machine.team.run_ahead(fields_.rows, std::span(touched).first(count), work);
    }

    // See `layer_norm` in spec/norm.py.
    bool find_row(std::int64_t sum, std::int64_t squares, std::int64_t epsilon, RowNorm& row) const {
        const std::int64_t width = fields_.columns;
        if (sum > width << 15 || sum < -(width << 15) || squares < 0 || squares > width << 30) return false;
        const std::int64_t radicand = width * squares + epsilon - (fields_.centred ? sum * sum : 0);
        if (radicand < 1) return false;
        const int length = 64 - __builtin_clzll(static_cast<unsigned long long>(radicand));
        const int half = (length + 1) / 2;
        const auto quotient = (static_cast<unsigned __int128>(1) << (60 + 2 * half)) / static_cast<std::uint64_t>(radicand);
        const std::int64_t root = integer_root(static_cast<std::uint64_t>(quotient));
        row = {fields_.centred ? sum : 0, std::min(root, (std::int64_t{1} << 31) - 1), extra_fraction_bits + half};
        return true;
    }

    void run(Machine& machine, const Norm& norm) const {
        const auto kernel = machine.kernels.norm_rows;
        if (fields_.rows * fields_.columns < smallest_shared) return kernel(norm, 0, fields_.rows);
        machine.team.share(fields_.rows, [norm, kernel](int first, int last) {
            kernel(norm, first, last);
            return true;
        });
    }

    Operand source_, destination_, copy_, parameters_;
    Fields fields_;
    Cache<NormParameters>& cache_;
};

std::unique_ptr<DecodedInstruction> make(const InstructionDescription& instruction, Shared& shared) {
    return std::make_unique<NormRows>(instruction, shared);
}

const InstructionType type{"norm", extents, make};
const Registration registration(type);

}  // namespace
}  // namespace sta
