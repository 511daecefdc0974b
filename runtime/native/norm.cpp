// norm: LayerNorm and RMSNorm of rows.

#include <algorithm>
#include <array>
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
        Norm norm{};
        norm.source = source.bytes;
        norm.source_stride = source.stride;
        norm.parameters = parameters;
        norm.columns = columns_;
        const Tile destination = has_destination_ ? machine.tile(destination_) : Tile{};
        const Tile copy = has_copy_ ? machine.tile(copy_) : Tile{};
        const bool direct = (!has_destination_ || destination.may_replace(source, true)) &&
                            (!has_copy_ || copy.apart_from(source)) &&
                            (!has_destination_ || !has_copy_ || destination.apart_from(copy));
        const auto to = [&norm](const Tile& result, const Tile& narrow) {
            norm.destination = result.bytes;
            norm.destination_stride = result.stride;
            norm.copy = narrow.bytes;
            norm.copy_stride = narrow.stride;
        };
        to(destination, copy);
        if (machine.goes_ahead && direct && !own && run_ahead(machine, norm, source, destination, copy)) return true;
        if (!machine.settle()) return false;
        auto* rows = reinterpret_cast<RowNorm*>(machine.rows.take(sizeof(RowNorm) * static_cast<std::size_t>(rows_)));
        if (!find_all_rows(machine, norm, rows)) return false;
        norm.rows = rows;
        const Tile result = has_destination_ && !direct ? aside(machine.results, destination) : destination;
        const Tile narrow = has_copy_ && !direct ? aside(machine.copies, copy) : copy;
        to(result, narrow);
        run(machine, norm);
        if (!direct && has_destination_) put(result, destination);
        if (!direct && has_copy_) put(narrow, copy);
        return true;
    }

    bool runs_ahead() const override { return true; }

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

    // Finds what some rows are normalized with; false if statistics that were gathered are not those of such a row.
    bool find_rows(const Statistics& statistics, const Norm& norm, int first, int last, RowNorm* rows) const {
        bool possible = true;
        for (int row = first; row < last; ++row) {
            std::int64_t sum, squares;
            if (gathered_) {
                sum = statistics.sums[row];
                squares = statistics.squares[row];
            } else {
                statistics.of_row(norm.source + row * norm.source_stride, columns_, sum, squares);
            }
            possible = find_row(sum, squares, norm.parameters->epsilon, rows[row]) && possible;
        }
        return possible;
    }

    // What was gathered has been used.
    void clear(const Statistics& statistics, int first, int last) const {
        if (!gathered_) return;
        std::fill(statistics.sums + first, statistics.sums + last, 0);
        std::fill(statistics.squares + first, statistics.squares + last, 0);
    }

    bool find_all_rows(Machine& machine, const Norm& norm, RowNorm* rows) const {
        const auto find = [this, its = machine.statistics(), norm, rows](int first, int last) {
            return find_rows(its, norm, first, last, rows);
        };
        if (!(rows_ * columns_ < smallest_shared ? find(0, rows_) : machine.team.share(rows_, find))) return false;
        clear(machine.statistics(), 0, rows_);
        return true;
    }

    // False if that is not possible; then nothing has happened.
    bool run_ahead(Machine& machine, const Norm& norm, const Tile& source, const Tile& destination,
                   const Tile& copy) const {
        std::array<SharedRows, 4> touched{source.read_by_rows()};
        std::size_t count = 1;
        if (has_destination_) touched[count++] = destination.written_by_rows();
        if (has_copy_) touched[count++] = copy.written_by_rows();
        if (gathered_) touched[count++] = machine.statistics().written_by_rows();
        const auto work = [this, its = machine.statistics(), norm, kernel = machine.kernels.norm](int first, int last) {
            thread_local Scratch scratch;
            auto* rows = reinterpret_cast<RowNorm*>(scratch.take(sizeof(RowNorm) * static_cast<std::size_t>(last)));
            if (!find_rows(its, norm, first, last, rows)) return false;
            clear(its, first, last);
            Norm with_rows = norm;
            with_rows.rows = rows;
            kernel(with_rows, first, last);
            return true;
        };
        return machine.team.run_ahead(rows_, std::span(touched).first(count), work);
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
