from contextvars import copy_context

from fapilog.context import bound_context, current_fields


def test_a_binding_may_end_in_another_context_than_it_began_in() -> None:
    bound = bound_context(user="ann")
    copy_context().run(bound.__enter__)
    copy_context().run(bound.__exit__, None, None, None)
    assert current_fields.get() == {}
