// rotate: rotary position embeddings of rows.

#include <array>

#include "instructions/instruction.h"
#include "instructions/parameters.h"

namespace sta {
namespace {

constexpr std::int64_t parameter_bytes = 16;

struct Fields {
    explicit Fields(const InstructionDescription& instruction)
        : rows(size_field(instruction, "rows")),
          columns(size_field(instruction, "columns")),
          width(size_field(instruction, "width")),
          source_type(choice_field<Element>(instruction, "source_type", {{"s8", Element::s8}, {"s16", Element::s16}})),
          destination_type(
              choice_field<Element>(instruction, "destination_type", {{"s8", Element::s8}, {"s16", Element::s16}})),
          half(choice_field<bool>(instruction, "pairing", {{"half", true}, {"interleaved", false}})) {
        if (width % 2 || width > columns) instruction.refuse("pairs beyond the columns");
    }

    int rows, columns, width;
    Element source_type, destination_type;
    bool half;
};

std::vector<Extent> extents(const InstructionDescription& instruction) {
    const Fields fields(instruction);
    const auto row_bytes = [&fields](Element element) { return std::int64_t{element_bytes(element)} * fields.columns; };
    return {{.name = "source",
             .spaces = {Space::spad},
             .rows = fields.rows,
             .row_bytes = row_bytes(fields.source_type)},
            {.name = "cosines", .spaces = {Space::spad}, .rows = fields.rows, .row_bytes = row_bytes(Element::s16)},
            {.name = "sines", .spaces = {Space::spad}, .rows = fields.rows, .row_bytes = row_bytes(Element::s16)},
            {.name = "parameters",
             .spaces = {Space::wbuf},
             .rows = 1,
             .row_bytes = parameter_bytes,
             .lie = Rows::adjacent},
            {.name = "destination",
             .spaces = {Space::spad},
             .rows = fields.rows,
             .row_bytes = row_bytes(fields.destination_type),
             .lie = Rows::apart,
             .writes = true}};
}

class Rotations : public DecodedInstruction {
public:
    Rotations(const InstructionDescription& instruction, Shared&)
        : source_(instruction.operand("source")),
          destination_(instruction.operand("destination")),
          cosines_(instruction.operand("cosines")),
          sines_(instruction.operand("sines")),
          parameters_(instruction.operand("parameters")),
          fields_(instruction) {}

    bool runs_ahead() const override { return true; }

    bool execute(Machine& machine) const override {
        const Scale scale = read_scale(machine.weights(parameters_).bytes, 0);
        if (!is_scale(scale)) return false;
        const Tile destination = machine.tile(destination_);
        Rotation rotation = described(machine, destination, scale);
        // An element is read for its partner, too.
        const bool direct = destination.apart_from(machine.tile(source_)) &&
                            destination.apart_from(machine.tile(cosines_)) &&
                            destination.apart_from(machine.tile(sines_));
        if (machine.goes_ahead && direct && run_ahead(machine, rotation, destination)) return true;
        if (!machine.settle()) return false;
        const Tile result = direct ? destination : destination.aside(machine.results);
        rotation.destination = result.bytes;
        rotation.destination_stride = result.stride;
        run(machine, rotation);
        if (!direct) result.copy_to(destination);
        return true;
    }

private:
    Rotation described(Machine& machine, const Tile& destination, Scale scale) const {
        const Tile source = machine.tile(source_), cosines = machine.tile(cosines_), sines = machine.tile(sines_);
        return {.source = source.bytes,
                .source_stride = source.stride,
                .source_type = fields_.source_type,
                .cosines = cosines.bytes,
                .cosines_stride = cosines.stride,
                .sines = sines.bytes,
                .sines_stride = sines.stride,
                .scale = scale,
                .destination = destination.bytes,
                .destination_stride = destination.stride,
                .destination_type = fields_.destination_type,
                .columns = fields_.columns,
                .width = fields_.width,
                .half = fields_.half};
    }

    static auto rows_of(Machine& machine, const Rotation& rotation) {
        return [rotation, kernel = machine.kernels.rotate_rows](int first, int last) {
            kernel(rotation, first, last);
            return true;
        };
    }

    // False if that is not possible; then nothing has happened.
    bool run_ahead(Machine& machine, const Rotation& rotation, const Tile& destination) const {
        const std::array touched{destination.written_by_rows(), machine.tile(source_).read_by_rows(),
                                 machine.tile(cosines_).read_by_rows(), machine.tile(sines_).read_by_rows()};
        return machine.team.run_ahead(fields_.rows, std::span(touched), rows_of(machine, rotation));
    }

    void run(Machine& machine, const Rotation& rotation) const {
        if (fields_.rows * fields_.columns < smallest_shared) machine.kernels.rotate_rows(rotation, 0, fields_.rows);
        else machine.team.share(fields_.rows, rows_of(machine, rotation));
    }

    Operand source_, destination_, cosines_, sines_, parameters_;
    Fields fields_;
};

std::unique_ptr<DecodedInstruction> make(const InstructionDescription& instruction, Shared& shared) {
    return std::make_unique<Rotations>(instruction, shared);
}

const InstructionType type{"rotate", extents, make};
const Registration registration(type);

}  // namespace
}  // namespace sta
