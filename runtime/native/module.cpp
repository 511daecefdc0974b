// The Python module: programs and machines for runtime/native_engine.py.

#include <pybind11/stl.h>

#include "bindings.h"

namespace py = pybind11;

namespace sta {
namespace {

using Terms = std::vector<std::pair<int, std::int64_t>>;
using AffineValue = std::pair<std::int64_t, Terms>;

Affine affine_from(const AffineValue& value) {
    return {value.first, value.second};
}

Space space_called(const std::string& name) {
    static const std::map<std::string, Space> spaces = {
        {"spad", Space::spad},           {"wbuf", Space::wbuf},         {"acc", Space::acc},
        {"constants", Space::constants}, {"writable", Space::writable},
    };
    const auto found = spaces.find(name);
    if (found == spaces.end()) throw BadDescription("unknown memory " + name);
    return found->second;
}

// Builds a program from what Python knows of it.
class Builder {
public:
    Builder(const py::dict& sizes, Buffer constants, int tile_rows, std::int64_t queue_depth, const std::string& family)
        : constants_(std::move(constants)) {
        const auto size = [&](const char* name) { return sizes[name].cast<std::int64_t>(); };
        description_.spad = size("spad");
        description_.wbuf = size("wbuf");
        description_.acc = size("acc");
        description_.writable = size("writable");
        description_.constants = constants_.data();
        description_.constants_size = constants_.size();
        description_.tile_rows = tile_rows;
        description_.queue_depth = queue_depth;
        description_.family = family;
    }

    void exponentials(int bits, const py::bytes& results) {
        const std::string text = results;
        description_.exponentials[bits] = std::vector<std::uint8_t>(text.begin(), text.end());
    }

    void instruction(int pc, const std::string& kind, const std::vector<std::int64_t>& counts, int partner) {
        InstructionDescription instruction;
        instruction.pc = pc;
        instruction.kind = kind;
        instruction.counts = counts;
        instruction.partner = partner;
        description_.instructions.push_back(std::move(instruction));
    }

    // These belong to the instruction added last.
    void number(const std::string& name, std::int64_t value) { last().numbers[name] = value; }
    void choice(const std::string& name, const std::string& value) { last().choices[name] = value; }
    void in_register(const std::string& name, const AffineValue& value) { last().registers[name] = affine_from(value); }
    void operand(const std::string& name, const std::string& space, const AffineValue& address,
                 const AffineValue& stride, std::int64_t rows, std::int64_t row_bytes, bool writes) {
        const Operand operand{space_called(space), affine_from(address), affine_from(stride), rows, row_bytes};
        last().operands[name] = operand;
        if (operand.space == Space::constants) return;
        const bool is_table = last().kind == "gather" && name == "table";
        const Affine all_rows = is_table ? last().in_register("limit") : Affine{rows, {}};
        last().accesses.push_back({operand.space, writes, operand.address, operand.stride, all_rows, row_bytes});
    }

    void job(int unit, std::int64_t busy, std::int64_t latency, std::uint32_t waits, std::uint32_t posts) {
        Job& job = last().job;
        job.unit = unit;
        job.busy = busy;
        job.latency = latency;
        job.waits = waits;
        job.posts = posts;
    }
    void one_piece(const AffineValue& stride, std::int64_t row_bytes, std::int64_t busy) {
        Job& job = last().job;
        job.may_be_one_piece = true;
        job.stride = affine_from(stride);
        job.row_bytes = row_bytes;
        job.busy_in_one_piece = busy;
    }
    void taint(bool transfers, bool always, bool never) {
        TaintRule& rule = last().taint;
        rule.transfers = transfers;
        rule.always = always;
        rule.never = never;
    }
    // Of operands that have been added before.
    void taint_source(const std::string& name) { last().taint.sources.push_back(last().operand(name)); }
    void taint_result(const std::string& name, bool may_leave) {
        last().taint.results.push_back({last().operand(name), may_leave});
    }

    const ProgramDescription& description() const { return description_; }
    const Buffer& constants() const { return constants_; }

private:
    InstructionDescription& last() {
        if (description_.instructions.empty()) throw BadDescription("a field of no instruction");
        return description_.instructions.back();
    }

    Buffer constants_;
    ProgramDescription description_;
};

// A machine that runs one program; both stay alive as long as their memories are looked at.
class Runner {
public:
    Runner(std::shared_ptr<const Program> program, Buffer constants, int threads)
        : program_(std::move(program)), constants_(std::move(constants)), machine_(program_->machine(threads)) {}

    void reset(std::uint8_t poison, bool goes_ahead) { machine_->reset(poison, goes_ahead); }

    // None while the program runs, True when it has ended, False if an instruction failed.
    py::object advance(double seconds) {
        Progress progress;
        {
            const py::gil_scoped_release release;
            progress = program_->advance(*machine_, std::chrono::duration<double>(seconds));
        }
        if (progress == Progress::running) return py::none();
        return py::bool_(progress == Progress::halted);
    }

    bool has_gone_wrong() const { return machine_->has_gone_wrong; }

    int pc() const { return program_->pc(*machine_); }

    std::vector<std::int64_t> counters() const { return {machine_->counters.begin(), machine_->counters.end()}; }

    // The memory itself, not a copy.
    static py::array memory(const py::object& self, const std::string& space) {
        Machine& machine = *self.cast<Runner&>().machine_;
        if (space_called(space) == Space::wbuf) {
            return py::array_t<std::uint8_t>({machine.wbuf.size()}, {1}, machine.wbuf.settled(), self);
        }
        const Bytes& bytes = space == "spad" ? machine.spad : space == "acc" ? machine.acc : machine.writable;
        return py::array_t<std::uint8_t>({bytes.size()}, {1}, bytes.data(), self);
    }

    static py::tuple statistics(const py::object& self) {
        Machine& machine = *self.cast<Runner&>().machine_;
        const auto array = [&](std::vector<std::int64_t>& values) {
            return py::array_t<std::int64_t>({values.size()}, {sizeof(std::int64_t)}, values.data(), self);
        };
        return py::make_tuple(array(machine.sums), array(machine.squares));
    }

private:
    std::shared_ptr<const Program> program_;
    Buffer constants_;
    std::unique_ptr<Machine> machine_;
};

bool scores_stay_on_chip(const NativeProgram& native) {
    const py::gil_scoped_release release;
    return native.program->scores_stay_on_chip(look);
}

std::vector<std::string> families_here() {
    std::vector<std::string> names;
    for (const Kernels* family : families()) {
        if (family->runs_here()) names.emplace_back(family->name);
    }
    return names;
}

}  // namespace
}  // namespace sta

PYBIND11_MODULE(_native, module) {
    using namespace sta;
    py::register_exception<BadDescription>(module, "BadDescription", PyExc_ValueError);
    module.def("families", &families_here);
    py::class_<Builder>(module, "Builder")
        .def(py::init<const py::dict&, Buffer, int, std::int64_t, const std::string&>())
        .def("exponentials", &Builder::exponentials)
        .def("instruction", &Builder::instruction)
        .def("number", &Builder::number)
        .def("choice", &Builder::choice)
        .def("register", &Builder::in_register)
        .def("operand", &Builder::operand)
        .def("job", &Builder::job)
        .def("one_piece", &Builder::one_piece)
        .def("taint", &Builder::taint)
        .def("taint_source", &Builder::taint_source)
        .def("taint_result", &Builder::taint_result);
    py::class_<Runner>(module, "Machine")
        .def("reset", &Runner::reset)
        .def("advance", &Runner::advance)
        .def_property_readonly("has_gone_wrong", &Runner::has_gone_wrong)
        .def_property_readonly("pc", &Runner::pc)
        .def_property_readonly("counters", &Runner::counters)
        .def("memory", &Runner::memory)
        .def("statistics", &Runner::statistics);
    py::class_<NativeProgram> program(module, "Program");
    program
        .def(py::init([](const Builder& builder) {
            return NativeProgram{std::make_shared<const Program>(builder.description()), builder.constants()};
        }))
        .def("machine",
             [](const NativeProgram& native, int threads) {
                 return std::make_unique<Runner>(native.program, native.constants, threads);
             })
        .def("scores_stay_on_chip", &scores_stay_on_chip)
        .def_property_readonly("family", [](const NativeProgram& native) { return native.program->kernels().name; });
    bind_reports(program);
}
