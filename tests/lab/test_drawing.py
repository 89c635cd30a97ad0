"""Drawings: every step in its place, and no text that could be something else."""

from __future__ import annotations

from xml.etree import ElementTree

from coati.lab.drawing import draw
from coati.lab.story import FAULT, HEAR, LOST, NOTE, SEND, STATE, Step, Story, table_of, text_of

SVG = "{http://www.w3.org/2000/svg}"


def story() -> Story:
    steps = [
        Step(0, STATE, "1", "begins", label="LOOKING"),
        Step(0, SEND, "1", "hello", ("client",)),
        Step(5, HEAR, "client", "<b>&amp;</b>", ("1",), 0, label='<"&\x00'),
        Step(5, HEAR, "1", "back", ("client",), 0, label="back"),
        Step(7, LOST, "client", "nobody listens there", ("1",)),
        Step(8, LOST, "1", "nobody listens there", ("client",)),
        Step(8, NOTE, "1", "counts", label="2 of 3"),
        Step(8, NOTE, "1", "thinks"),
        Step(9, FAULT, "1", "dies"),
        Step(9, STATE, "client", "is sad", label="other"),
    ]
    return Story("A <story>", ["1", "client"], ["Once upon a time."], steps, ["The end."])


def test_a_drawing_is_xml_whatever_is_said() -> None:
    root = ElementTree.fromstring(draw([story()]))
    texts = [node.text for node in root.iter(f"{SVG}text")]
    assert '<"&?' in texts
    assert "A <story>" in texts
    assert "server 1" in texts
    assert "client" in texts
    assert "dies" in texts, "a fault without a label shows its text"
    assert "2 of 3" in texts
    assert "thinks" not in texts, "a note without a label is told only"
    assert "hello" not in texts, "a message is drawn when it arrives"


def test_arrows_go_from_who_sent_to_who_heard_and_down() -> None:
    root = ElementTree.fromstring(draw([story()]))
    lanes = [float(line.attrib["x1"]) for line in root.iter(f"{SVG}line") if line.attrib["class"] == "l"]
    arrows = [line.attrib for line in root.iter(f"{SVG}line") if line.attrib["class"] == "m"]
    assert [(float(one["x1"]), float(one["x2"])) for one in arrows] == [tuple(lanes), tuple(reversed(lanes))]
    assert all(float(one["y2"]) > float(one["y1"]) for one in arrows)


def test_two_stories_stand_side_by_side() -> None:
    one, two = (ElementTree.fromstring(draw([story()] * count)) for count in (1, 2))
    assert float(two.attrib["width"]) == 2 * float(one.attrib["width"])
    assert two.attrib["height"] == one.attrib["height"]
    assert len(list(two.iter(f"{SVG}g"))) == 2


def test_a_text_says_a_time_once() -> None:
    assert (
        text_of(story())
        == """\
A <story>
  Once upon a time.

ms  who          what
 0  1            [LOOKING] begins
    1 -> client  hello
 5  client <- 1  <b>&amp;</b>
    1 <- client  back
 7  client -x 1  nobody listens there
 8  1 -x client  nobody listens there
    1            counts
    1            thinks
 9  1            dies
    client       [other] is sad

The end.
"""
    )


def test_an_empty_story_has_a_text_and_a_drawing() -> None:
    empty = Story("Nothing", ["1"])
    assert text_of(empty) == "Nothing\n\nms  who  what\n"
    assert ElementTree.fromstring(draw([empty])).tag == f"{SVG}svg"


def test_a_table_is_aligned() -> None:
    assert table_of(["a", "b"], [["long", "x"], ["", "y"]]) == ["a     b", "long  x", "      y"]
