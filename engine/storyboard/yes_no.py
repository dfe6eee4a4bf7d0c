"""Words for yes and no as spreadsheets and people write them: the constants of Excel and LibreOffice in the languages
that translate them, and what people put into a column that says yes or no.

All are compared in lower case. Excel shows TRUE in the language of the program, and writes it into a CSV so.
"""
# ruff: noqa: RUF001 - letters of other scripts stand here as they should

_YES = """
TRUE T YES Y ON 1 1.0 1,0 X ✓ ✔ ☑ ✅ LOCKED WAHR JA J VRAI OUI VERDADERO CIERTO SÍ SI S VERO SÌ
VERDADEIRO SIM WAAR SANT SAND SANN TOSI KYLLÄ PRAWDA TAK PRAVDA ANO ÁNO IGAZ IGEN ИСТИНА ДА ІСТИНА
ТАК DOĞRU EVET ΑΛΗΘΕΣ ΑΛΗΘΗΣ ΝΑΙ ADEVĂRAT ADEVARAT DA ISTINA RESNIČNO TÕENE JAH PATIESS PATIESA JĀ
TIESA TAIP CERT VERITABLE EGIA BENAR YA ĐÚNG 真 是 はい 참 예 จริง صواب נכון אמת
"""
_NO = """
FALSE F NO N OFF 0 0.0 0,0 - – — ☐ UNLOCKED FALSCH NEIN FAUX NON FALSO NÃO NAO ONWAAR NEE FALSKT
FALSK NEJ USANN NEI EPÄTOSI EI FAŁSZ FALSZ NIE NEPRAVDA NE HAMIS NEM ЛОЖЬ НЕТ ХИБНІСТЬ ХИБА НІ
YANLIŞ yanlış HAYIR hayır ΨΕΥΔΕΣ ΨΕΥΔΗΣ ΟΧΙ FALS NU LAŽ NEISTINA NERESNIČNO VÄÄR APLAMS NEPATIESS
NEPATIESA NĒ NETIESA FALTSUA SALAH TIDAK SAI 假 否 偽 いいえ 거짓 아니오 เท็จ خطأ שקר
"""
YES = frozenset(_YES.casefold().split())
NO = frozenset(_NO.casefold().split())
