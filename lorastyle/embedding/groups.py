"""Groups of target modules: each gets a Gram matrix of its own, and sums give any union.

They are the coarsest that the wanted sub-networks allow: a whole one of the three keeps its
name, a part of one is called `SUBNETWORK/DIGEST`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from lorastyle.adapters.layout import AdapterLayout, TargetModule, joined
from lorastyle.adapters.module_sets import atoms, modules_of
from lorastyle.embedding.delta_products import Module
from lorastyle.records import digest

Groups = Mapping[str, Sequence[Module]]
"""Modules by the group's name, in the layout's order."""
Members = Mapping[str, tuple[str, ...]]
"""Names of modules by the group's name."""

DIGEST_LENGTH = 12


def groups_for(layout: AdapterLayout, expressions: Iterable[str]) -> dict[str, list[Module]]:
    """The fewest groups of which every expression is a union; together they are all modules."""
    modules = layout_modules(layout)
    return {
        _name_of(atom, layout.targets): [modules[name] for name in atom]
        for atom in atoms(expressions, layout.targets)
    }


def sub_network_groups(layout: AdapterLayout) -> dict[str, list[Module]]:
    """The sub-networks that the layout has, in its order."""
    return groups_for(layout, ())


def layout_modules(layout: AdapterLayout) -> dict[str, Module]:
    """Every module of a layout, in its order."""
    entries = layout.entries
    pairs = zip(entries[::2], entries[1::2], strict=True)
    return {a.module: Module(a, b) for a, b in pairs}


def sub_network_of(group: str) -> str:
    """The sub-network a group belongs to.

    >>> sub_network_of("feed_forward/3f1c09a2be77")
    'feed_forward'
    """
    return group.partition("/")[0]


def columns_of(modules: Sequence[Module]) -> list[slice]:
    """The column ranges of some modules, neighbours joined."""
    return joined(module.columns for module in modules)


@dataclass(frozen=True)
class Partition:
    """Which modules of a layout each group holds."""

    targets: tuple[TargetModule, ...]
    """All modules of the layout; 0 features where only their names are known."""
    members: Members

    @classmethod
    def of(cls, layout: AdapterLayout, groups: Groups) -> Partition:
        members = {name: tuple(part.name for part in parts) for name, parts in groups.items()}
        return cls(layout.targets, members)

    @classmethod
    def of_names(
        cls, groups: Iterable[str], targets: Sequence[TargetModule] | None = None
    ) -> Partition:
        """What groups' names tell: a sub-network holds all its modules, `SUBNETWORK/MODULE` one.

        Where the modules are not known, a sub-network stands for one that is called like it.
        """
        groups = tuple(groups)
        if targets is None:
            targets = [
                TargetModule(group.partition("/")[2] or group, sub_network_of(group), 0, 0)
                for group in groups
            ]
        members: dict[str, tuple[str, ...]] = dict.fromkeys(groups, ())
        for target in targets:
            alone = f"{target.sub_network}/{target.name}"
            members[alone if alone in groups else target.sub_network] += (target.name,)
        return cls(tuple(targets), members)

    @cached_property
    def sizes_are_known(self) -> bool:
        return any(target.out_features for target in self.targets)

    def union(self, expression: str) -> tuple[str, ...] | None:
        """The groups that an expression is a union of; None where it cuts one in two.

        Empty where it names no module. Raises ConfigError for what is no expression.
        """
        wanted = set(modules_of(expression, self.targets))
        chosen = tuple(name for name, modules in self.members.items() if wanted & set(modules))
        n_modules = sum(len(self.members[name]) for name in chosen)
        return chosen if n_modules == len(wanted) else None


def refines(finer: Members, coarser: Members) -> bool:
    """Whether each coarser group is a union of finer ones."""
    owners = {module: name for name, modules in coarser.items() for module in modules}
    covered = {module for modules in finer.values() for module in modules}
    return covered >= owners.keys() and all(
        len({owners.get(module) for module in modules}) == 1 for modules in finer.values()
    )


def _name_of(atom: tuple[str, ...], targets: Sequence[TargetModule]) -> str:
    sub_network = next(target.sub_network for target in targets if target.name == atom[0])
    whole = tuple(target.name for target in targets if target.sub_network == sub_network)
    return sub_network if atom == whole else f"{sub_network}/{digest(list(atom))[:DIGEST_LENGTH]}"
