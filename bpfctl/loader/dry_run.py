"""What ``migrate`` would do, without doing it: no pin, no program, and the maps made for it go again."""

from __future__ import annotations

import os

from bpfctl.errors import BpfctlError
from bpfctl.loader.live import LoadedObject
from bpfctl.loader.load import LoadRequest, load_types
from bpfctl.loader.maps import MapMaker, check_definition
from bpfctl.loader.migrate import Plan, migrations
from bpfctl.loader.pins import PinPlan
from bpfctl.loader.transaction import Transaction
from bpfctl.objfile.spec import ObjectSpec


def plan(obj: ObjectSpec, request: LoadRequest) -> list[Plan]:
    """One plan for each pinned map of ``obj`` that differs from it; raises as the load would."""
    plans = []
    with Transaction() as transaction, LoadedObject(obj) as loaded:
        places = PinPlan(obj, transaction, request.pin_root, request.pin_maps, makes=False)
        load_types(loaded)
        maker = MapMaker(loaded, places, request._replace(migrate=True))
        for spec in obj.maps.values():
            check_definition(spec, obj.path, relaxed=request.relaxed_maps)
            path = places.path(spec)
            if path and os.path.lexists(path):
                maker.make(spec)
        for migration in migrations(loaded):
            refused: BpfctlError | None = None
            try:
                migration.copy(write=False)
            except BpfctlError as error:
                refused = error
            plans.append(migration.plan(refused))
    return plans
