"""What needs no database. Run with: python3 -m unittest"""

import unittest

import passwords
import telemetry

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


class Passwords(unittest.TestCase):
    def test_a_password_is_known_again_and_no_other(self) -> None:
        kept = passwords.hash_password("correct horse")

        self.assertTrue(passwords.verify("correct horse", kept))
        self.assertFalse(passwords.verify("correct house", kept))

    def test_the_same_password_twice_has_two_hashes(self) -> None:
        self.assertNotEqual(passwords.hash_password("x"), passwords.hash_password("x"))

    def test_half_a_character_is_no_text(self) -> None:
        self.assertTrue(passwords.is_text("pässword 🔑"))
        self.assertFalse(passwords.is_text("\ud800"))

    def test_nobody_has_no_password(self) -> None:
        self.assertFalse(passwords.verify("", passwords.NOBODY))


class Traces(unittest.TestCase):
    def test_a_valid_traceparent_names_the_trace(self) -> None:
        self.assertEqual(telemetry.trace_id_of(f"00-{TRACE}-{SPAN}-01"), TRACE)

    def test_an_invalid_traceparent_names_none(self) -> None:
        for header in (
            None,
            "",
            "nonsense",
            f"00-{TRACE}-{SPAN}",
            f"00-{'0' * 32}-{SPAN}-01",
            f"00-{TRACE}-{'0' * 16}-01",
            f"ff-{TRACE}-{SPAN}-01",
            f"00-{TRACE}-{SPAN}-01-more",
        ):
            with self.subTest(header=header):
                self.assertIsNone(telemetry.trace_id_of(header))


if __name__ == "__main__":
    unittest.main()
