"""Traces from any teacher: problems are asked, answers verified, and right ones become the demonstrations of a training file.

From a file of questions to one of traces:
    exercises        the problems, in any layout
    server, wire     one server of the OpenAI protocol; a model in this process is :mod:`luffy.evaluation.generation`'s
    pace             requests at once, pauses, budget
    asking           many answers, each until it is there
    answers          written down, verified, and given one name each
    probabilities    the teacher's probability of each token, where its tokens are the policy's
    choice           which right answers of a problem are kept
    command          the flags
    collection       all of it
    report           what became of every answer
"""
