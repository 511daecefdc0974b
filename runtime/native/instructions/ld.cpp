// ld: copies rows from DRAM to a memory on the chip.

#include "instructions/copies.h"

namespace sta {
namespace {

struct Fields {
    explicit Fields(const InstructionDescription& instruction)
        : rows(size_field(instruction, "rows")),
          row_bytes(size_field(instruction, "row_bytes", largest_row_bytes)),
          space(choice_field<Space>(instruction, "space", {{"spad", Space::spad}, {"wbuf", Space::wbuf}})) {}

    int rows, row_bytes;
    Space space;
};

std::vector<Extent> extents(const InstructionDescription& instruction) {
    const Fields fields(instruction);
    return {{.name = "dram",
             .spaces = {Space::constants, Space::writable},
             .rows = fields.rows,
             .row_bytes = fields.row_bytes},
            {.name = "sram",
             .spaces = {fields.space},
             .rows = fields.rows,
             .row_bytes = fields.row_bytes,
             .lie = Rows::apart,
             .writes = true}};
}

class LoadWeights : public DecodedInstruction {
public:
    LoadWeights(const Operand& source, const Operand& destination) : source_(source), destination_(destination) {}

    // What others read of constants, they read where these are: there is nothing in the buffer that they need.
    bool runs_ahead() const override { return source_.space == Space::constants; }

    bool execute(Machine& machine) const override {
        const Tile source = machine.tile(source_);
        const std::int64_t* counters = machine.counters.data();
        const std::int64_t address = destination_.address.at(counters);
        const std::int64_t stride = source.rows == 1 ? source.row_bytes : destination_.stride.at(counters);
        const std::int64_t source_stride = source.rows == 1 ? source.row_bytes : source.stride;
        const bool is_one_piece = stride == source.row_bytes && source_stride == source.row_bytes;
        if (is_one_piece && source_.space == Space::constants) {
            machine.wbuf.load_constants(address, source.rows * source.row_bytes, source.bytes);
            return true;
        }
        const std::int64_t size = (source.rows - 1) * stride + source.row_bytes;
        // Between the rows the memory keeps what it holds.
        if (!is_one_piece) machine.wbuf.settled();
        std::uint8_t* destination = machine.wbuf.writable(address, size);
        copy_rows(source.bytes, source_stride, destination, stride, source.rows, source.row_bytes);
        return true;
    }

private:
    Operand source_, destination_;
};

std::unique_ptr<DecodedInstruction> make(const InstructionDescription& instruction, Shared&) {
    const Operand &dram = instruction.operand("dram"), &sram = instruction.operand("sram");
    if (sram.space == Space::wbuf) return std::make_unique<LoadWeights>(dram, sram);
    return std::make_unique<Copy>(dram, sram);
}

const InstructionType type{"ld", extents, make};
const Registration registration(type);

}  // namespace
}  // namespace sta
