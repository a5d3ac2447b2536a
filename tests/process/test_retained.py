"""What is retained of the finished ones bounds nobody's own result."""

import math

import trio

from trio_process import Core, Program, Service, ServiceOptions

SIZE = 70 * 2**20  # ServiceOptions.retain_bytes is 64 MiB
HEAD = ("head", "-c", str(SIZE), "/dev/zero")


async def test_a_run_gets_its_whole_output_however_much_it_is():
    with trio.fail_after(60):
        async with Core(Service) as core:
            assert len(await core.process.run(*HEAD)) == SIZE
            service = core.service(Service)
            assert len((await service.run(*HEAD, buffer_size=math.inf)).stdout) == SIZE
            assert service.statistics().remembered_bytes == 0
        assert len(await Program(HEAD[0]).run(*HEAD[1:])) == SIZE


async def test_runs_that_end_together_get_theirs_too():
    sizes = []

    async def run(service):
        sizes.append(len((await service.run("head", "-c", "1000", "/dev/zero")).stdout))

    with trio.fail_after(30):
        async with Service(options=ServiceOptions(retain_bytes=10)) as service:
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(run, service)
            assert service.statistics().remembered_bytes == 0
    assert sizes == [1000] * 20
