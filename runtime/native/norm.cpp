// norm: LayerNorm and RMSNorm of rows.

#include <algorithm>
#include <cmath>

#include "operation.h"
#include "parameters.h"

namespace sta {
namespace {

constexpr int smallest_shared = 2048;  // elements
constexpr int extra_fraction_bits = 10;

std::int64_t integer_root(std::uint64_t value) {
    auto root = static_cast<std::uint64_t>(std::sqrt(static_cast<double>(value)));
    while (root * root > value) --root;
    while ((root + 1) * (root + 1) <= value) ++root;
    return static_cast<std::int64_t>(root);
}

class NormRows : public Operation {
public:
    NormRows(const InstructionDescription& instruction, Shared& shared)
        : source_(instruction.operand("source")),
          parameters_(instruction.operand("parameters")),
          rows_(instruction.number("rows")),
          columns_(instruction.number("columns")),
          centred_(instruction.choice("kind") == "layer"),
          gathered_(instruction.number("gathered") != 0),
          has_destination_(instruction.optional_operand("destination") != nullptr),
          has_copy_(instruction.optional_operand("copy") != nullptr),
          cache_(shared.norms(columns_)) {
        if (has_destination_) destination_ = instruction.operand("destination");
        if (has_copy_) copy_ = instruction.operand("copy");
    }

    bool execute(Machine& machine) const override {
        std::unique_ptr<NormParameters> own;
        const NormParameters* parameters = parameters_of(machine, own);
        if (!parameters) return false;
        const Tile source = machine.tile(source_);
        auto* rows = reinterpret_cast<RowNorm*>(machine.rows.take(sizeof(RowNorm) * static_cast<std::size_t>(rows_)));
        if (!find_rows(machine, source, *parameters, rows)) return false;
        Norm norm{};
        norm.source = source.bytes;
        norm.source_stride = source.stride;
        norm.parameters = parameters;
        norm.rows = rows;
        norm.columns = columns_;
        const Tile destination = has_destination_ ? machine.tile(destination_) : Tile{};
        const Tile copy = has_copy_ ? machine.tile(copy_) : Tile{};
        const bool direct = (!has_destination_ || destination.may_replace(source, true)) &&
                            (!has_copy_ || copy.apart_from(source)) &&
                            (!has_destination_ || !has_copy_ || destination.apart_from(copy));
        const Tile result = has_destination_ && !direct ? aside(machine.results, destination) : destination;
        const Tile narrow = has_copy_ && !direct ? aside(machine.copies, copy) : copy;
        norm.destination = result.bytes;
        norm.destination_stride = result.stride;
        norm.copy = narrow.bytes;
        norm.copy_stride = narrow.stride;
        run(machine, norm);
        if (!direct && has_destination_) put(result, destination);
        if (!direct && has_copy_) put(narrow, copy);
        return true;
    }

private:
    static Tile aside(Scratch& scratch, const Tile& tile) {
        return {scratch.take(static_cast<std::size_t>(tile.rows * tile.row_bytes)), tile.row_bytes, tile.rows,
                tile.row_bytes};
    }

    static void put(const Tile& from, const Tile& to) {
        for (std::int64_t row = 0; row < to.rows; ++row) {
            std::memcpy(to.bytes + row * to.stride, from.bytes + row * from.stride,
                        static_cast<std::size_t>(to.row_bytes));
        }
    }

    const NormParameters* parameters_of(Machine& machine, std::unique_ptr<NormParameters>& own) const {
        const View block = machine.weights(parameters_);
        if (block.constant) {
            if (const NormParameters* known = cache_.find(block.bytes)) return known;
        }
        own = read_norm_parameters(block.bytes, columns_);
        const std::int64_t size = 8 * (std::int64_t{columns_} + 15) + 128;
        if (!own || !block.constant || !cache_.has_room(size)) return own.get();
        return cache_.keep(block.bytes, std::move(own), size);
    }

    // Finds what each row is normalized with; false if statistics that were gathered are not those of such a row.
    bool find_rows(Machine& machine, const Tile& source, const NormParameters& parameters, RowNorm* rows) const {
        const Machine* state = &machine;
        const auto find = [this, state, source, rows, epsilon = parameters.epsilon](int first, int last) {
            bool possible = true;
            for (int row = first; row < last; ++row) {
                const auto index = static_cast<std::size_t>(row);
                std::int64_t sum, squares;
                if (gathered_) {
                    sum = state->sums[index];
                    squares = state->squares[index];
                } else {
                    state->kernels.row_statistics(source.bytes + row * source.stride, columns_, sum, squares);
                }
                possible = find_row(sum, squares, epsilon, rows[row]) && possible;
            }
            return possible;
        };
        if (!(rows_ * columns_ < smallest_shared ? find(0, rows_) : machine.team.share(rows_, find))) return false;
        if (gathered_) {
            std::fill_n(machine.sums.begin(), rows_, 0);
            std::fill_n(machine.squares.begin(), rows_, 0);
        }
        return true;
    }

    // See `layer_norm` in spec/norm.py.
    bool find_row(std::int64_t sum, std::int64_t squares, std::int64_t epsilon, RowNorm& row) const {
        const std::int64_t width = columns_;
        if (sum > width << 15 || sum < -(width << 15) || squares < 0 || squares > width << 30) return false;
        const std::int64_t radicand = width * squares + epsilon - (centred_ ? sum * sum : 0);
        if (radicand < 1) return false;
        const int length = 64 - __builtin_clzll(static_cast<unsigned long long>(radicand));
        const int half = (length + 1) / 2;
        const auto quotient = (static_cast<unsigned __int128>(1) << (60 + 2 * half)) / static_cast<std::uint64_t>(radicand);
        const std::int64_t root = integer_root(static_cast<std::uint64_t>(quotient));
        row = {centred_ ? sum : 0, std::min(root, (std::int64_t{1} << 31) - 1), extra_fraction_bits + half};
        return true;
    }

    void run(Machine& machine, const Norm& norm) const {
        const auto kernel = machine.kernels.norm;
        if (rows_ * columns_ < smallest_shared) return kernel(norm, 0, rows_);
        machine.team.share(rows_, [norm, kernel](int first, int last) {
            kernel(norm, first, last);
            return true;
        });
    }

    Operand source_, destination_, copy_, parameters_;
    int rows_, columns_;
    bool centred_, gathered_, has_destination_, has_copy_;
    NormCache& cache_;
};

}  // namespace

std::unique_ptr<Operation> make_norm(const InstructionDescription& instruction, Shared& shared) {
    return std::make_unique<NormRows>(instruction, shared);
}

}  // namespace sta
