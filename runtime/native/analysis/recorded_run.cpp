#include "analysis/recorded_run.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>

namespace sta {

Run::Run(const Program& recorded, const Columns& columns)
    : program(recorded),
      pc(columns.pc),
      unit(columns.unit),
      ready(columns.ready),
      entered(columns.entered),
      start(columns.start),
      end(columns.end),
      complete(columns.complete),
      order(columns.order),
      rows_of_unit(static_cast<std::size_t>(recorded.runs_on().units)) {
    const auto check = [](bool holds) {
        if (!holds) throw BadDescription("a schedule of another program");
    };
    for (const Column* column : {&unit, &ready, &entered, &start, &end, &complete}) check(column->size == size());
    check(size() > 0 && size() <= static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()));
    position.resize(size());
    std::int32_t fences = 0;
    for (std::size_t row = 0; row < size(); ++row) {
        check(pc[row] >= 0 && pc[row] < program.code_size());
        const Job* found = program.job(static_cast<int>(pc[row]));
        check(unit[row] == (found ? found->unit : program.sequencer()));
        if (!found) {
            position[row] = fences++;
            continue;
        }
        std::vector<std::int32_t>& rows = rows_of_unit[static_cast<std::size_t>(unit[row])];
        position[row] = static_cast<std::int32_t>(rows.size());
        rows.push_back(static_cast<std::int32_t>(row));
    }
    check(order.size + static_cast<std::size_t>(fences) == size());
    std::vector<bool> started(size());
    for (std::size_t index = 0; index < order.size; ++index) {
        check(order[index] >= 0 && order[index] < static_cast<std::int64_t>(size()));
        const auto row = static_cast<std::size_t>(order[index]);
        check(!is_fence(row) && !started[row]);
        started[row] = true;
    }
}

std::vector<Handover> handovers(const Run& run) {
    std::array<std::vector<std::int32_t>, most_semaphores> posts, waits;
    const auto add = [](auto& rows, Semaphores semaphores, std::int32_t row) {
        for (; semaphores; semaphores &= semaphores - 1) {
            rows[static_cast<std::size_t>(std::countr_zero(semaphores))].push_back(row);
        }
    };
    for (std::size_t index = 0; index < run.order.size; ++index) {
        const auto row = static_cast<std::size_t>(run.order[index]);
        add(posts, run.job(row).posts, static_cast<std::int32_t>(row));
        add(waits, run.job(row).waits, static_cast<std::int32_t>(row));
    }
    const auto completes_earlier = [&](std::int32_t left, std::int32_t right) {
        return run.complete[static_cast<std::size_t>(left)] < run.complete[static_cast<std::size_t>(right)];
    };
    std::vector<Handover> found;
    for (std::size_t semaphore = 0; semaphore < most_semaphores; ++semaphore) {
        // Of posts in one cycle, those of earlier starts come first: they may have brought about the others.
        // Most are in order already: those of one unit complete as they start.
        if (!std::is_sorted(posts[semaphore].begin(), posts[semaphore].end(), completes_earlier)) {
            std::stable_sort(posts[semaphore].begin(), posts[semaphore].end(), completes_earlier);
        }
        const std::size_t met = std::min(posts[semaphore].size(), waits[semaphore].size());
        for (std::size_t index = 0; index < met; ++index) {
            found.push_back({static_cast<int>(semaphore), posts[semaphore][index], waits[semaphore][index]});
        }
    }
    return found;
}

}  // namespace sta
