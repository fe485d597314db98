"""The book of places: never more in flight than the asker's limit, first come first, nothing kept of who is gone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from personalab.place_book import PlaceBook, Ticket

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sampled_from("abc"), st.sampled_from(["e", "f"]), st.integers(1, 3)),
        st.tuples(st.just("back"), st.integers(0, 9)),
        st.tuples(st.just("leave"), st.sampled_from("abc")),
    ),
    max_size=60,
)


@given(STEPS)
def test_limits_hold_whatever_happens(steps: list[tuple[object, ...]]) -> None:
    """Whoever goes finds fewer in flight than its limit; those of an endpoint go in the order they came; all end well."""
    book = PlaceBook()
    asked: dict[Ticket, tuple[str, int]] = {}
    flying: set[Ticket] = set()

    def let_go(admitted: list[Ticket]) -> None:
        for ticket in admitted:
            endpoint, limit = asked[ticket]
            assert ticket not in flying
            assert sum(asked[other][0] == endpoint for other in flying) < limit
            before = list(asked)[: list(asked).index(ticket)]
            assert all(other in flying for other in before if asked[other][0] == endpoint)
            flying.add(ticket)

    def give_back(ticket: Ticket) -> None:
        flying.discard(ticket)
        admitted = book.back(ticket)
        del asked[ticket]
        let_go(admitted)

    for number, step in enumerate(steps):
        if step[0] == "ask":
            ticket = (str(step[1]), str(number))
            asked[ticket] = (str(step[2]), int(str(step[3])))
            let_go(book.ask(str(step[2]), ticket, int(str(step[3]))))
        elif step[0] == "back" and asked:
            give_back(list(asked)[int(str(step[1])) % len(asked)])
        elif step[0] == "leave":
            assert book.of(str(step[1])) == {
                ticket: ticket in flying for ticket in asked if ticket[0] == step[1]
            }
            for ticket in book.of(str(step[1])):
                give_back(ticket)
    for ticket in list(asked):
        give_back(ticket)
    assert book.back(("a", "0")) == []
    assert not flying
