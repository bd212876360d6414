"""Does the model of choice hold?"""
